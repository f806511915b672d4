/* port/port.h: threads. */
#include "harness.h"

#include "port/port.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static void *ask(void *answer) {
    *(bool *)answer = atoll_thread_is_main();
    return NULL;
}

/* The exit status is what the child's only thread says. */
static void *fork_and_ask(void *status) {
    (void)atoll_thread_is_main();
    pid_t child = fork();
    if (child == 0) {
        _exit(atoll_thread_is_main() ? 7 : 8);
    }
    (void)waitpid(child, status, 0);
    return NULL;
}

TEST(thread_that_is_the_first_knows_it) {
    bool answer = true;
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, ask, &answer) == 0);
    (void)pthread_join(thread, NULL);
    CHECK(!answer);
    CHECK(atoll_thread_is_main());
    CHECK(atoll_thread_is_main());
}

TEST(thread_that_forks_is_the_first_of_the_child) {
    int status = 0;
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, fork_and_ask, &status) == 0);
    (void)pthread_join(thread, NULL);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), 7);
    CHECK(atoll_thread_is_main());
}
