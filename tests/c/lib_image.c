/* Its first segment is not at address 0, as of libraries that were made for one place.
 *
 * Linked with: -Wl,-Ttext-segment=0x7fff00000000
 */
int image_next(void);

static int count;

int image_next(void) { return ++count; }
