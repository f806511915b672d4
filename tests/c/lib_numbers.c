/* A library with one number of threads for the process, as OpenBLAS has it, or one for each thread, as OpenMP runtimes have. */
static int number = 8;
static _Thread_local int own = 8;

int openblas_get_num_threads(void) { return number; }
void openblas_set_num_threads(int count) { number = count; }
int omp_get_max_threads(void) { return own; }
void omp_set_num_threads(int count) { own = count; }
