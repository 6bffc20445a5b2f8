/* A C program around epoll that goes wrong in one known way when it is ordered to.
 *
 *     loops MODE FOLDER [PORT]
 *
 * When the file `go` appears in the folder, it leaves `gone` there and goes into its mode. It beats where there is a
 * NOTIFY_SOCKET, by what sd_notify does and nothing more. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t orders = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t positions = PTHREAD_MUTEX_INITIALIZER;
static int set;

static void notify(const char *text) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static int sender = -1;
    if (!path || strlen(path) >= sizeof address.sun_path) return;
    if (sender < 0) sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    strcpy(address.sun_path, path);
    if (path[0] == '@') address.sun_path[0] = 0;
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    if (sendto(sender, text, strlen(text), 0, (struct sockaddr *)&address, length) < 0) return;
}

static int ordered(const char *folder) {
    char path[512];
    snprintf(path, sizeof path, "%s/go", folder);
    if (unlink(path) != 0) return 0;
    snprintf(path, sizeof path, "%s/gone", folder);
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    if (file >= 0) close(file);
    return 1;
}

static void *settle(void *unused) {
    (void)unused;
    pthread_mutex_lock(&positions);
    usleep(200000);
    pthread_mutex_lock(&orders);
    return NULL;
}

__attribute__((noinline)) static void lock_in_the_other_order(void) {
    pthread_t thread;
    pthread_mutex_lock(&orders);
    pthread_create(&thread, NULL, settle, NULL);
    usleep(100000);
    pthread_mutex_lock(&positions);
}

__attribute__((noinline)) static void lock_twice(void) {
    pthread_mutex_lock(&orders);
    pthread_mutex_lock(&orders);
}

__attribute__((noinline)) static void read_what_nobody_writes(void) {
    int ends[2];
    char byte;
    if (pipe(ends) == 0 && read(ends[0], &byte, 1) < 0) perror("read");
}

__attribute__((noinline)) static void wait_for_a_child_that_does_not_exec(void) {
    if (vfork() == 0) {
        for (;;) pause();
    }
}

__attribute__((noinline)) static void compute_for_ever(void) {
    for (volatile unsigned long number = 1;; number = number * 48271 % 2147483647) {
    }
}

static int listener(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int on = 1, listens = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listens, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listens, (struct sockaddr *)&address, sizeof address) != 0 || listen(listens, 16) != 0) exit(1);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listens};
    epoll_ctl(set, EPOLL_CTL_ADD, listens, &event);
    return listens;
}

static void go_wrong(const char *mode, int listens) {
    if (!strcmp(mode, "deadlock")) lock_in_the_other_order();
    if (!strcmp(mode, "self-lock")) lock_twice();
    if (!strcmp(mode, "read")) read_what_nobody_writes();
    if (!strcmp(mode, "pause")) pause();
    if (!strcmp(mode, "sleep")) sleep(1000000);
    if (!strcmp(mode, "vfork")) wait_for_a_child_that_does_not_exec();
    if (!strcmp(mode, "spin")) compute_for_ever();
    if (!strcmp(mode, "deaf")) epoll_ctl(set, EPOLL_CTL_MOD, listens, &(struct epoll_event){.events = 0});
}

/* Seizes a process, stops it, and keeps it until its standard input ends. */
static int trace(const char *word) {
    pid_t pid = atoi(word);
    char byte;
    int status;
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) != 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) != 0) return 1;
    if (waitpid(pid, &status, __WALL) != pid) return 1;
    puts("traced");
    fflush(stdout);
    while (read(0, &byte, 1) > 0) {
    }
    return 0;
}

int main(int count, char **words) {
    if (count == 3 && !strcmp(words[1], "trace")) return trace(words[2]);
    if (count < 3) return 2;
    const char *mode = words[1], *folder = words[2];
    set = epoll_create1(EPOLL_CLOEXEC);
    int listens = count > 3 ? listener(atoi(words[3])) : -1;
    int beats = getenv("NOTIFY_SOCKET") != NULL, idle = !strcmp(mode, "idle"), turns = 0;
    notify("READY=1\nWATCHDOG=1");
    for (;;) {
        struct epoll_event event;
        int ready = epoll_wait(set, &event, 1, idle ? (beats ? 1000 : -1) : 50);
        if (ready > 0 && event.data.fd == listens) {
            int client = accept(listens, NULL, NULL);
            if (client >= 0) close(client);
        }
        if (idle || ++turns % 10 == 0) notify("WATCHDOG=1");
        if (!idle && ordered(folder)) go_wrong(mode, listens);
    }
}
