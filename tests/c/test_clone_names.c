/* What names of libraries say, and lists of directories: core/clone/clones.h. */
#include "harness.h"

#include "core/clone/clones.h"

#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

TEST(clones_names_of_the_system) {
    static const char *const system[] = {
        "libc.so.6",
        "libm.so.6",
        "ld-linux-x86-64.so.2",
        "libstdc++.so.6",
        "libstdc++-9f86d081.so.6.0.30",
        "libgcc_s-0c1b2d3e.so.1",
        "libgomp.so.1",
        "libgomp-a34b3233.so.1.0.0",
        "libgfortran-040039e1.so.5.0.0",
        "libpython3.14.so.1.0",
        "libcudart-d0da41ae.so.11.0",
        "/lib/x86_64-linux-gnu/libc.so.6",
        "a/libm.so.6",
    };
    static const char *const others[] = {
        "",          "/",           "libc.so.60",       "libc.so", "xlibc.so.6", "libm.so.6/a",
        "libfoo.so", "libgompx.so", "libopenblas.so.0",
    };
    for (size_t i = 0; i < sizeof system / sizeof *system; i++) {
        CHECK_STR(atoll_name_is_system(system[i]) ? system[i] : "not of the system", system[i]);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CHECK_STR(atoll_name_is_system(others[i]) ? "of the system" : others[i], others[i]);
    }
}

TEST(clones_names_that_are_cloned_or_call_back) {
    CHECK(atoll_name_wants_clone("libarrow.so.1800"));
    CHECK(atoll_name_wants_clone("/opt/lib/libhdf5-1a2b3c4d.so.200"));
    CHECK(atoll_name_wants_clone("libreadline.so.8"));
    CHECK(atoll_name_wants_clone("/usr/lib/libboost_serialization.so.1.83.0"));
    CHECK(!atoll_name_wants_clone("libboost_filesystem.so.1.83.0"));
    CHECK(!atoll_name_wants_clone("libarro.so"));
    CHECK(!atoll_name_wants_clone("/libarrow/libz.so.1"));
    CHECK(atoll_name_calls_back("libglib-2.0.so.0"));
    CHECK(atoll_name_calls_back("libQt6Core.so.6"));
    CHECK(!atoll_name_calls_back("libQt.so"));
    CHECK(!atoll_name_calls_back("/libglib-2.0/libz.so.1"));
    CHECK(atoll_name_keeps_nothing("/opt/libkrb5-4c5795d1.so.3") && !atoll_name_keeps_nothing("libGL.so.1"));
    CHECK(atoll_name_keeps_nothing("libX11.so.6") && atoll_name_registers("XcmsAddColorSpace") != 0);
}

TEST(clones_names_that_are_for_the_process) {
    static const char *const linear[] = {
        "libopenblas.so.0", "libflexiblas.so.3", "libblis-1a2b3c4d.so.4", "libsatlas-6c1f674f.so",
        "libtatlas.so.3",   "libarmpl_lp64.so",  "libnvpl_blas_core.so.0"};
    static const char *const shared[] = {"libX11-xcb.so.1",  "libXi-4a5b6c7d.so.6", "libXrender.so.1",
                                         "libamdhip64.so.7", "libamd_comgr.so.3",   "librocblas.so.5",
                                         "librocm_smi64.so"};
    static const char *const others[] = {"libamd.so.3",     "libamd-a26d1aab.so.2.4.1",
                                         "librocksdb.so.9", "libXrdCl.so.6",
                                         "libXMLIO.so",     "libXtra.so"};
    for (size_t i = 0; i < sizeof linear / sizeof *linear; i++) {
        bool both = atoll_name_is_process_wide(linear[i]) && atoll_name_keeps_nothing(linear[i]);
        CHECK_STR(both ? linear[i] : "not linear algebra", linear[i]);
    }
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        CHECK_STR(atoll_name_is_process_wide(shared[i]) ? shared[i] : "not for the process", shared[i]);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CHECK_STR(atoll_name_is_process_wide(others[i]) ? "for the process" : others[i], others[i]);
    }
}

TEST(clones_know_what_comes_with_a_package) {
    atoll_clones set = {.root = "/v/site-packages/cmeel.prefix/lib/python3.14/site-packages"};
    CHECK(
        atoll_clones_is_packaged(&set, "/v/site-packages/cmeel.prefix/lib/libboost_serialization.so.1.90.0"));
    CHECK(atoll_clones_is_packaged(&set, "/v/site-packages/some.libs/liba.so"));
    CHECK(!atoll_clones_is_packaged(&set, "/v/site-packages/cmeel.prefix.so"));
    CHECK(!atoll_clones_is_packaged(&set, "/usr/lib/libboost_serialization.so.1.90.0"));
}

/* ---- search paths ---- */

static void check_search_path(const char *list, const char *file, const char *expected) {
    char *path = atoll_clone_search_path(list, file);
    CHECK_STR(path, expected);
    free(path);
}

TEST(clones_search_path) {
    check_search_path("$ORIGIN", "/a/b/c.so", "/a/b");
    check_search_path("${ORIGIN}/../libs:/usr/lib", "/a/b/c.so", "/a/b/../libs:/usr/lib");
    check_search_path("/usr/lib:$ORIGIN/x", "/a/b/c.so", "/usr/lib:/a/b/x");
    check_search_path("$ORIGIN/x", "/c.so", "//x");
    check_search_path("$ORIGIN/x", "c.so", "./x");
    check_search_path("/x$ORIGIN/y", "/a/c.so", "/x/a/y");
    check_search_path("$ORIGIN-x:$ORIGIN_x:$ORIGIN1", "/a/c.so", "/a-x:$ORIGIN_x:$ORIGIN1");
    check_search_path("", "/a/b/c.so", "");
    check_search_path(":/x::", "/a/b/c.so", ".:/x:.:."); /* no name is the current directory */
    check_search_path("$ORIGIN:$ORIGIN", "/a/c.so", "/a:/a");
    check_search_path("$LIB/x:$ORIGI", "/a/c.so", "$LIB/x:$ORIGI");
}

/* As the dynamic linker reads it: what goes on after the name is another name. */
TEST(clones_search_path_with_names_alike) {
    check_search_path("$ORIGINAL/x:${ORIGIN", "/a/c.so", "$ORIGINAL/x:${ORIGIN");
}

/* Directories whose names have a colon cannot be in a list. */
TEST(clones_search_path_without_odd_directories) {
    check_search_path("$ORIGIN:/x:$ORIGIN/y", "/a:b/c.so", "/x");
}
