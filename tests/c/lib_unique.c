/* A symbol that the dynamic linker wants only one of in the process, as C++ has for inline variables.  Code and headers
 * share a page here.
 *
 * Linked with: -Wl,-z,noseparate-code
 */
__asm__(".pushsection .data\n"
        ".balign 4\n"
        ".globl unique_count\n"
        ".type unique_count, %gnu_unique_object\n"
        ".size unique_count, 4\n"
        "unique_count: .long 0\n"
        ".popsection\n");

extern int unique_count;
int unique_next(void);

int unique_next(void) { return ++unique_count; }
