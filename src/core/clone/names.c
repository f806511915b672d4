/* What is known of libraries, and of their functions, by their names.
 *
 * A pattern ends with a '*' or is the whole name; wheels put a hash behind the first part (libgomp-a34b3233.so.1.0.0), so
 * most have one.
 */
#include "core/clone/clones.h"

#include <string.h>

/* They keep their state by thread, or for the process, on purpose; a second copy of them would disagree with the first. */
static const char *const system_libraries[] = {
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libresolv.so.2",
    "libmvec.so.1",
    "ld-linux-*",
    "libgcc_s.so.1",
    "libgcc_s-*",
    "libstdc++.so.6",
    "libstdc++-*",
    "libgomp.so.1",
    "libgomp-*",
    "libomp.so*",
    "libiomp5.so",
    "libgfortran.so.*",
    "libgfortran-*",
    "libquadmath.so*",
    "libquadmath-*",
    "libatomic.so.1",
    "libpython3*",
    "libc++.so.1",
    "libc++abi.so.1",
    "libcuda.so*",
    "libcudart.so*",
    "libcudart-*",
    "libnvidia-*",
    "libcublas*",
    "libcudnn*",
    "libcufft*",
    "libcurand*",
    "libcusolver*",
    "libcusparse*",
    "libcufile*",
    "libnccl*",
    "libnvrtc*",
    "libnvJitLink*",
    "libcupti*",
    "libnvshmem*",
    "libnvToolsExt*",
    NULL,
};

/* They register objects, types or threads for the process, and were made for one interpreter in it:
 * Arrow has registries of extension types and of functions that Python fills; torch one of operators and dispatch keys;
 * libev one default loop; igraph one error handler, LLVM one context for ctypes' use, netCDF one state without a lock;
 * readline one line and its history; ncurses and what belongs to it one current terminal;
 * HDF5 one table of types and conversions; Boost's serialization one of classes, where constructors enter those of who needs it. */
static const char *const cloned_libraries[] = {
    "libarrow*",
    "libparquet*",
    "libtorch*",
    "libc10*",
    "libshm*",
    "libcaffe2*",
    "libllvmlite*",
    "libev.so*",
    "libev-*",
    "libigraph*",
    "libnetcdf*",
    "libreadline*",
    "libhistory*",
    "libncurses*",
    "libtinfo*",
    "libpanel*",
    "libform*",
    "libmenu*",
    "libedit*",
    "libhdf5*",
    "libboost_serialization*",
    "libboost_wserialization*",
    NULL,
};

/* They keep functions that they were given and call them when the process ends, or from threads of their own. */
static const char *const later_callers[] = {
    "libQt5*", "libQt6*", "libgobject-2*", "libglib-2*", "libgtk-*", "libgit2*", "libcuda.so*", NULL,
};

/* So do these, for what works on a graphics processor: without the driver, which they open when they are first used, they
 * have no thread and never call anybody. */
static const char *const driven_callers[] = {"libcuda*", NULL};

/* They come with packages and still are for the process: linear algebra, whose threads and buffers are one pool for all
 * and which keeps nothing that it is given; schedulers, allocators, drivers and windows.  Names are as long as it takes: SuiteSparse has
 * a libamd, which is nothing of AMD's, XRootD has libXrdCl, and there is librocksdb. */
static const char *const process_wide_libraries[] = {
    "libopenblas*",
    "libscipy_openblas*",
    "libblas*",
    "liblapack*",
    "libcblas*",
    "libblis*",
    "libflexiblas*",
    "libatlas*",
    "libsatlas*",
    "libtatlas*",
    "libmkl_*",
    "libarmpl*",
    "libnvpl*",
    "libtbb*",
    "libhwloc*",
    "libnuma*",
    "libjemalloc*",
    "libtcmalloc*",
    "libmimalloc*",
    "libmpi*",
    "libopen-pal*",
    "libopen-rte*",
    "libOpenCL*",
    "libGL*",
    "libEGL*",
    "libOpenGL*",
    "libX11*",
    "libXau*",
    "libXaw*",
    "libXcomposite*",
    "libXcursor*",
    "libXdamage*",
    "libXdmcp*",
    "libXext*",
    "libXfixes*",
    "libXft*",
    "libXi.so*",
    "libXi-*",
    "libXinerama*",
    "libXmu*",
    "libXpm*",
    "libXpresent*",
    "libXrandr*",
    "libXrender*",
    "libXss*",
    "libXt.so*",
    "libXt-*",
    "libXtst*",
    "libXv*",
    "libXxf86*",
    "libxcb*",
    "libwayland*",
    "libvulkan*",
    "libamdhip*",
    "libamd_*",
    "libamdocl*",
    "librocblas*",
    "librocfft*",
    "librocm*",
    "librocprof*",
    "librocrand*",
    "librocsolver*",
    "librocsparse*",
    "libroctracer*",
    "libroctx*",
    "libhsa*",
    "libhip*",
    "librccl*",
    "libMIOpen*",
    "libsycl*",
    "libze_*",
    "libcusparseLt*",
    "libcudss*",
    "libnv*",
    NULL,
};

/* What they are given they keep no longer than the object of theirs that it was given to, which ends with its owner's module:
 * nothing in their static memory leads to it.  The arithmetic is one for the process; the others are what the
 * standard library's own modules are made of, and many more.  Found by reading: a library that nobody has read is not here. */
static const char *const forgetful_libraries[] = {
    "libopenblas*",  "libscipy_openblas*",
    "libblas*",      "libcblas*",
    "liblapack*",    "libblis*",
    "libflexiblas*", "libatlas*",
    "libsatlas*",    "libtatlas*",
    "libmkl_*",      "libarmpl*",
    "libnvpl*",      "libz.so*",
    "libz-*",        "libbz2*",
    "liblzma*",      "libzstd*",
    "liblz4*",       "libexpat*",
    "libcrypto*",    "libssl*",
    "libffi*",       "libmpdec*",
    "libsqlite3*",   "libuuid*",
    "libcrypt.so*",  "libcrypt-*",
    "libX11*",       "libXext*",
    "libXrender*",   "libxcb*",
    "libXau*",       "libXdmcp*",
    "libkrb5*",      "libk5crypto*",
    "libcom_err*",   "libgssapi_krb5*",
    "libkeyutils*",  NULL,
};

/* What is hooked in with these stays, as there is no way to take it back: the C library calls it later, or looks at it. */
static const char *const hooks[] = {
    "PySys_AddAuditHook",
    "PyRefTracer_SetTracer",
    "timer_create",
    "mq_notify",
    "register_printf_specifier",
    "register_printf_type",
    "register_printf_function",
    "aio_read",
    "aio_read64",
    "aio_write",
    "aio_write64",
    "aio_fsync",
    "aio_fsync64",
    "lio_listio",
    "lio_listio64",
    "getaddrinfo_a",
    "hcreate",
    "_ZNSt6locale6globalERKS_", /* parts of a locale are objects, whose classes may be theirs; as is: */
    "_ZNSt3pmr20set_default_resourceEPNS_15memory_resourceE",
    "_ZSt14set_unexpectedPFvvE",
    NULL,
};

/* With these a library is given a function, or a table, that it keeps for the process, or for the thread, where nobody finds it: in memory
 * from malloc().  At most 63. */
static const char *const registering[] = {
    "sqlite3_auto_extension",
    "sqlite3_vfs_register",
    "CRYPTO_get_ex_new_index",
    "ERR_load_strings",
    "ERR_load_strings_const",
    "OPENSSL_atexit",
    "OSSL_PROVIDER_add_builtin",
    "OSSL_STORE_register_loader",
    "OSSL_trace_set_callback",
    "OBJ_NAME_new_index",
    "OBJ_NAME_add",
    "EVP_add_cipher",
    "EVP_add_digest",
    "EVP_PKEY_meth_add0",
    "EVP_PKEY_asn1_add0",
    "ENGINE_add",
    "EVP_PBE_alg_add",
    "CONF_module_add",
    "X509V3_EXT_add",
    "X509V3_EXT_add_list",
    "X509_PURPOSE_add",
    "X509_TRUST_add",
    "X509_VERIFY_PARAM_add0_table",
    "SSL_COMP_add_compression_method",
    "krb5_cc_register",
    "krb5_kt_register",
    "add_error_table",
    "xmlSetGenericErrorFunc",
    "xmlSetStructuredErrorFunc",
    "xmlNewCharEncodingHandler",
    "xmlRegisterCharEncodingHandler",
    "xsltRegisterExtModule",
    "xsltRegisterExtModuleFull",
    "xsltRegisterExtModuleFunction",
    "xsltRegisterExtModuleElement",
    "xsltRegisterExtModuleTopLevel",
    "TIFFRegisterCODEC",
    "Tcl_CreateEventSource",
    "Tcl_CreateExitHandler",
    "Tcl_CreateThreadExitHandler",
    "Tcl_FSRegister",
    "Tcl_RegisterObjType",
    "Tcl_StaticLibrary",
    "Tcl_StaticPackage",
    "Tk_CreateImageType",
    "Tk_CreatePhotoImageFormat",
    "XRegisterIMInstantiateCallback",
    "XcmsAddColorSpace",
    "XcmsAddFunctionSet",
    NULL,
};
_Static_assert(sizeof registering / sizeof *registering <= 64, "a bit for each");

/* Who puts a function of his in the place of another one with these is told which that was, and may put it back. */
static const char *const replacing[] = {
    "PyMem_SetAllocator",
    "PyObject_SetArenaAllocator",
    "_ZSt15set_new_handlerPFvvE",
    "_ZSt13set_terminatePFvvE",
    NULL,
};

static bool matches(const char *const *patterns, const char *name) {
    for (; *patterns != NULL; patterns++) {
        size_t length = strlen(*patterns);
        if ((*patterns)[length - 1] == '*' ? strncmp(*patterns, name, length - 1) == 0
                                           : strcmp(*patterns, name) == 0) {
            return true;
        }
    }
    return false;
}

bool atoll_name_is_system(const char *name) { return matches(system_libraries, atoll_name_last_part(name)); }

bool atoll_name_wants_clone(const char *name) {
    return matches(cloned_libraries, atoll_name_last_part(name));
}

bool atoll_name_is_process_wide(const char *name) {
    const char *last = atoll_name_last_part(name);
    return matches(process_wide_libraries, last) || matches(system_libraries, last);
}

bool atoll_name_keeps_nothing(const char *name) {
    return atoll_name_is_system(name) || matches(forgetful_libraries, atoll_name_last_part(name));
}

uint8_t atoll_name_calls_back(const char *name) {
    const char *last = atoll_name_last_part(name);
    return matches(later_callers, last)    ? ATOLL_CALLS_BACK
           : matches(driven_callers, last) ? ATOLL_CALLS_BACK_FROM_DRIVER
                                           : 0;
}

static bool is_one_of(const char *const *names, const char *name) {
    while (*names != NULL && strcmp(*names, name) != 0) {
        names++;
    }
    return *names != NULL;
}

bool atoll_name_is_hook(const char *symbol) { return is_one_of(hooks, symbol); }

bool atoll_name_replaces(const char *symbol) { return is_one_of(replacing, symbol); }

uint64_t atoll_name_registers(const char *symbol) {
    unsigned number = 0;
    while (registering[number] != NULL && strcmp(registering[number], symbol) != 0) {
        number++;
    }
    return registering[number] != NULL ? UINT64_C(1) << number : 0;
}

const char *atoll_name_registering(unsigned number) {
    return number < sizeof registering / sizeof *registering ? registering[number] : NULL;
}
