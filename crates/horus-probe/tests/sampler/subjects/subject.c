// A program with a loop on epoll: a timer of 20 ms, standard input, and in some modes a listening socket. A line on standard
// input makes it ill, in the way that its first argument says.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *mode;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile uint64_t work;

static int is(const char *name) { return strcmp(mode, name) == 0; }

static void nap(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, 0);
}

static void compute(long milliseconds) {
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do {
        for (int i = 0; i < 10000; i++) work++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 < milliseconds);
}

static void fall_ill(void) {
    int ends[2];
    if (is("lock")) { pthread_mutex_lock(&lock); pthread_mutex_lock(&lock); }
    if (is("pipe")) { char byte; if (pipe(ends) == 0 && read(ends[0], &byte, 1) < 0) exit(1); }
    if (is("pause")) pause();
    if (is("sleep")) for (;;) sleep(3600);
    if (is("spin")) for (;;) work++;
    // The child does not outlive whoever is killed while it waits.
    if (is("vfork")) { if (vfork() == 0) { prctl(PR_SET_PDEATHSIG, SIGKILL); sleep(3600); _exit(0); } }
    if (is("nested")) {
        int inner = epoll_create1(0);
        struct epoll_event event;
        epoll_wait(inner, &event, 1, -1);
    }
}

static int listener(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (struct sockaddr *)&address, length) || listen(server, 8)) exit(1);
    getsockname(server, (struct sockaddr *)&address, &length);
    printf("port %d\n", ntohs(address.sin_port));
    return server;
}

// A program without a loop: it sleeps, or computes, by its own order.
static void batch(void) {
    printf("ready\n");
    for (;;) { if (is("batch-sleep")) nap(3000); else compute(300); }
}

int main(int count, char **arguments) {
    mode = count > 1 ? arguments[1] : "healthy";
    setvbuf(stdout, 0, _IONBF, 0);
    if (!strncmp(mode, "batch", 5)) batch();
    int loop = epoll_create1(0), ill = 0, server = -1;
    struct epoll_event event = {.events = EPOLLIN}, found;
    if (is("undrained")) event.events |= EPOLLET;
    if (is("undrained") || is("accepting") || is("unread")) {
        event.data.fd = server = listener();
        epoll_ctl(loop, EPOLL_CTL_ADD, server, &event);
    }
    event.events = EPOLLIN;
    if (!is("idle")) {
        int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        struct itimerspec every = {{0, 20000000}, {0, 20000000}};
        timerfd_settime(timer, 0, &every, 0);
        event.data.fd = timer;
        epoll_ctl(loop, EPOLL_CTL_ADD, timer, &event);
    }
    event.data.fd = 0;
    epoll_ctl(loop, EPOLL_CTL_ADD, 0, &event);
    printf("ready\n");
    for (;;) {
        char text[64];
        if (epoll_wait(loop, &found, 1, -1) != 1) continue;
        if (found.data.fd == 0) {
            if (read(0, text, sizeof text) <= 0) return 0;
            ill = 1;
            printf("ill\n");
            fall_ill();
        } else if (found.data.fd == server) {
            if (is("undrained") && ill) continue;
            int client = accept(server, 0, 0);
            if (is("unread")) { event.data.fd = client; epoll_ctl(loop, EPOLL_CTL_ADD, client, &event); }
            else close(client);
        } else if (read(found.data.fd, text, 8) < 0) continue;
        else if (is("busy")) compute(12);
    }
}
