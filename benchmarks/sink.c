/* The server that all senders are measured against: takes every message, delivers nothing.
 *
 *   sink CERTIFICATE KEY CAPTURE DELAY_MS KEEP [PIPELINING] [CHUNKING]
 *
 * listens on a free port of loopback and prints it. CERTIFICATE and KEY are PEM files, or "-" "-" for
 * a server without TLS. Announces PIPELINING (RFC 2920) and CHUNKING (RFC 3030) if told to. What it
 * reads and what it says waits DELAY_MS each, as on a long line: bytes of TCP, the handshakes too,
 * and nobody waits for another's.
 *
 * On standard input it is told `watch PID FIRST LAST`: after message FIRST and after message LAST it
 * prints a mark, the CPU time of process PID and its own, and the time on the clock. When standard
 * input ends it writes CAPTURE and ends. CAPTURE has a line for every message, `RECIPIENT SIZE
 * COMMAND KEPT`, COMMAND being D for DATA or B for BDAT, and after it KEPT bytes: the whole message,
 * dots still stuffed, of every KEEP-th, else nothing. It is held in memory until then, so that no
 * disk is busy while somebody is measured.
 *
 * One thread and poll(2); what it costs a message is printed with every mark.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#ifdef __APPLE__
#include <libproc.h>
#include <mach/mach_time.h>
#endif

enum { READ_BYTES = 1 << 17, LINE_BYTES = 4096, BLOCK_BYTES = 1 << 22 };

typedef struct {
    char *data;
    size_t size, room;
} Buffer;

typedef struct Chunk {
    struct Chunk *next;
    int64_t due;
    size_t size, done;
    char data[];
} Chunk;

typedef struct {
    Chunk *first, *last;
} Queue;

enum State { COMMAND, CONTENT, CHUNK };

typedef struct {
    int fd;
    SSL *ssl;
    BIO *heard, *said; /* only with a delay: what came and what is to go, in TLS */
    Queue in, out;     /* only with a delay */
    int is_over, wants_write;
    enum State state;
    Buffer line, reply, content;
    char recipient[512];
    int has_sender, has_recipient, is_kept, by_bdat;
    size_t size;       /* of the message so far */
    size_t chunk_left; /* BDAT */
    int is_last;
    int dot; /* DATA: 0, or 1 after CRLF ".", 2 after CRLF "." CR */
    char before[2];
} Connection;

typedef struct Block {
    struct Block *next;
    size_t size;
    char data[BLOCK_BYTES];
} Block;

static Block *first_block, *last_block;
static Connection **connections;
static struct pollfd *polled;
static size_t number, room;
static int64_t delay;
static unsigned long keep, begun, taken, by_bdat, opened, bytes;
static unsigned long first_mark, last_mark;
static long watched;
static char greeting[512];

static void fail(const char *what) {
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void *checked(void *memory) {
    if (memory == NULL) fail("memory");
    return memory;
}

static int64_t clock_ns(clockid_t id) {
    struct timespec at;
    if (clock_gettime(id, &at) != 0) return -1;
    return at.tv_sec * INT64_C(1000000000) + at.tv_nsec;
}

static int64_t now(void) { return clock_ns(CLOCK_MONOTONIC); }

/* User and system time of another process, in nanoseconds; -1 if the system does not tell. */
static int64_t cpu_of(long pid) {
#if defined(__APPLE__)
    struct rusage_info_v2 usage;
    mach_timebase_info_data_t base;
    if (proc_pid_rusage((int)pid, RUSAGE_INFO_V2, (rusage_info_t *)&usage) != 0) return -1;
    mach_timebase_info(&base);
    return (int64_t)((usage.ri_user_time + usage.ri_system_time) * base.numer / base.denom);
#elif defined(__linux__)
    clockid_t id;
    return clock_getcpuclockid((pid_t)pid, &id) == 0 ? clock_ns(id) : -1;
#else
    return -1;
#endif
}

static void mark(void) {
    printf("{\"taken\": %lu, \"client_ns\": %lld, \"sink_ns\": %lld, \"at_ns\": %lld,"
           " \"by_bdat\": %lu, \"connections\": %lu}\n",
           taken, (long long)cpu_of(watched), (long long)clock_ns(CLOCK_PROCESS_CPUTIME_ID),
           (long long)now(), by_bdat, opened);
    fflush(stdout);
}

static void append(Buffer *buffer, const char *data, size_t size) {
    if (buffer->size + size > buffer->room) {
        buffer->room = (buffer->size + size) * 2;
        buffer->data = checked(realloc(buffer->data, buffer->room));
    }
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

static void store(const char *data, size_t size) {
    while (size > 0) {
        if (last_block == NULL || last_block->size == BLOCK_BYTES) {
            Block *block = checked(malloc(sizeof *block));
            block->next = NULL;
            block->size = 0;
            if (last_block != NULL) last_block->next = block;
            else first_block = block;
            last_block = block;
        }
        size_t part = BLOCK_BYTES - last_block->size;
        if (part > size) part = size;
        memcpy(last_block->data + last_block->size, data, part);
        last_block->size += part;
        data += part;
        size -= part;
    }
}

/* -- the protocol ---------------------------------------------------------------------------- */

static void say(Connection *c, const char *text) { append(&c->reply, text, strlen(text)); }

static void forget(Connection *c) {
    c->has_sender = c->has_recipient = c->is_kept = c->by_bdat = 0;
    c->size = 0;
    c->content.size = 0;
}

static void take(Connection *c, size_t tail) {
    char head[600];
    size_t size = c->size - tail, kept = c->is_kept ? size : 0;
    int length = snprintf(head, sizeof head, "%s %zu %c %zu\n", c->recipient, size,
                          c->by_bdat ? 'B' : 'D', kept);
    store(head, (size_t)length);
    store(c->content.data, kept);
    taken++;
    by_bdat += (unsigned long)c->by_bdat;
    bytes += size;
    forget(c);
    c->state = COMMAND;
    say(c, "250 2.0.0 Ok: taken\r\n");
    if (taken == first_mark || taken == last_mark) mark();
}

static void add(Connection *c, const char *data, size_t size) {
    c->size += size;
    if (c->is_kept) append(&c->content, data, size);
}

static int is(const char *line, const char *verb) {
    return strncasecmp(line, verb, strlen(verb)) == 0;
}

/* One command, without its line end. */
static void command(Connection *c, char *line) {
    if (is(line, "MAIL FROM:")) {
        forget(c);
        c->has_sender = 1;
        c->is_kept = keep > 0 && begun++ % keep == 0;
        say(c, "250 2.1.0 Ok\r\n");
    } else if (is(line, "RCPT TO:")) {
        const char *start = strchr(line, '<'), *end = start ? strchr(start, '>') : NULL;
        if (!c->has_sender || c->has_recipient || end == NULL || end - start > 500) {
            say(c, "503 5.5.1 One sender, then one recipient\r\n");
            return;
        }
        memcpy(c->recipient, start + 1, (size_t)(end - start - 1));
        c->recipient[end - start - 1] = '\0';
        c->has_recipient = 1;
        say(c, "250 2.1.5 Ok\r\n");
    } else if (strcasecmp(line, "DATA") == 0) {
        if (!c->has_recipient || c->by_bdat) {
            say(c, "503 5.5.1 Nobody to take it for\r\n");
            return;
        }
        c->state = CONTENT;
        c->dot = 0;
        memcpy(c->before, "\r\n", 2);
        say(c, "354 End with a dot\r\n");
    } else if (is(line, "BDAT ")) {
        char *rest;
        c->chunk_left = strtoul(line + 5, &rest, 10);
        c->is_last = strncasecmp(rest, " LAST", 5) == 0;
        if (!c->has_recipient) { /* RFC 3030 2: its octets come all the same */
            fprintf(stderr, "BDAT without a recipient\n");
            exit(1);
        }
        c->by_bdat = 1;
        c->state = CHUNK;
    } else if (is(line, "EHLO")) {
        say(c, greeting);
    } else if (is(line, "HELO")) {
        say(c, "250 sink.example\r\n");
    } else if (is(line, "AUTH PLAIN ")) {
        say(c, "235 2.7.0 Ok\r\n");
    } else if (is(line, "RSET")) {
        forget(c);
        say(c, "250 2.0.0 Ok\r\n");
    } else if (is(line, "NOOP")) {
        say(c, "250 2.0.0 Ok\r\n");
    } else if (is(line, "QUIT")) {
        say(c, "221 2.0.0 Bye\r\n");
        c->is_over = 1;
    } else {
        say(c, "502 5.5.2 Not known\r\n");
    }
}

/* Octets of a chunk; how many. */
static size_t hear_chunk(Connection *c, const char *data, size_t size) {
    size_t part = size < c->chunk_left ? size : c->chunk_left;
    add(c, data, part);
    c->chunk_left -= part;
    if (c->chunk_left == 0) {
        if (c->is_last) {
            take(c, 0);
        } else {
            c->state = COMMAND;
            say(c, "250 2.0.0 Ok, more\r\n");
        }
    }
    return part;
}

/* Content up to its final dot; how many octets. Dots are rare, so memchr(3) does the work. */
static size_t hear_content(Connection *c, const char *data, size_t size) {
    size_t at = 0;
    while (at < size) {
        if (c->dot == 1 && data[at] == '\r') {
            c->dot = 2;
            at++;
            continue;
        }
        if (c->dot == 2 && data[at] == '\n') {
            add(c, data, at + 1);
            take(c, 3);
            return at + 1;
        }
        c->dot = 0;
        const char *dot = memchr(data + at, '.', size - at);
        if (dot == NULL) break;
        size_t found = (size_t)(dot - data);
        char cr = found >= 2 ? data[found - 2] : c->before[found];
        char lf = found >= 1 ? data[found - 1] : c->before[1];
        c->dot = cr == '\r' && lf == '\n';
        at = found + 1;
    }
    if (size >= 2) memcpy(c->before, data + size - 2, 2);
    else if (size == 1) c->before[0] = c->before[1], c->before[1] = data[0];
    add(c, data, size);
    return size;
}

static size_t hear_command(Connection *c, char *data, size_t size) {
    char *end = memchr(data, '\n', size);
    if (end == NULL) {
        append(&c->line, data, size);
        if (c->line.size > LINE_BYTES) c->is_over = 1;
        return size;
    }
    size_t part = (size_t)(end - data) + 1;
    char *line = data;
    if (c->line.size > 0) {
        append(&c->line, data, part);
        line = c->line.data;
        end = line + c->line.size - 1;
        c->line.size = 0;
    }
    if (end > line && end[-1] == '\r') end--;
    *end = '\0';
    command(c, line);
    return part;
}

static void hear(Connection *c, char *data, size_t size) {
    while (size > 0 && !c->is_over) {
        size_t part = c->state == COMMAND   ? hear_command(c, data, size)
                      : c->state == CONTENT ? hear_content(c, data, size)
                                            : hear_chunk(c, data, size);
        data += part;
        size -= part;
        if (c->state == CHUNK && c->chunk_left == 0) hear_chunk(c, data, 0); /* BDAT 0 */
    }
}

/* -- connections ----------------------------------------------------------------------------- */

static void push(Queue *queue, const char *data, size_t size) {
    Chunk *chunk = checked(malloc(sizeof *chunk + size));
    chunk->next = NULL;
    chunk->due = now() + delay;
    chunk->size = size;
    chunk->done = 0;
    memcpy(chunk->data, data, size);
    if (queue->last != NULL) queue->last->next = chunk;
    else queue->first = chunk;
    queue->last = chunk;
}

static void pop(Queue *queue) {
    Chunk *chunk = queue->first;
    queue->first = chunk->next;
    if (queue->first == NULL) queue->last = NULL;
    free(chunk);
}

static void drop(size_t index) {
    Connection *c = connections[index];
    if (c->ssl != NULL) SSL_free(c->ssl);
    close(c->fd);
    while (c->in.first != NULL) pop(&c->in);
    while (c->out.first != NULL) pop(&c->out);
    free(c->line.data);
    free(c->reply.data);
    free(c->content.data);
    free(c);
    connections[index] = connections[--number];
}

/* A new connection; 0 if there is none. */
static int welcome(int listening, SSL_CTX *tls) {
    int one = 1, fd = accept(listening, NULL, NULL);
    if (fd < 0) return 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (number == room) {
        room = room ? room * 2 : 64;
        connections = checked(realloc(connections, room * sizeof *connections));
        polled = checked(realloc(polled, (room + 2) * sizeof *polled));
    }
    Connection *c = checked(calloc(1, sizeof *c));
    connections[number++] = c;
    opened++;
    c->fd = fd;
    if (tls != NULL) {
        c->ssl = checked(SSL_new(tls));
        SSL_set_accept_state(c->ssl);
        if (delay > 0) {
            c->heard = BIO_new(BIO_s_mem());
            c->said = BIO_new(BIO_s_mem());
            BIO_set_mem_eof_return(c->heard, -1);
            SSL_set_bio(c->ssl, c->heard, c->said);
        } else {
            SSL_set_fd(c->ssl, fd);
        }
    }
    say(c, "220 sink.example ESMTP\r\n");
    return 1;
}

/* What OpenSSL said about a call: 1 if it only wants to wait. */
static int only_waits(Connection *c, int result) {
    int error = SSL_get_error(c->ssl, result);
    c->wants_write = error == SSL_ERROR_WANT_WRITE;
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

/* Everything that can be decrypted now; 0 if the connection is over. */
static int hear_tls(Connection *c, char *space) {
    ERR_clear_error();
    do {
        int size = SSL_read(c->ssl, space, READ_BYTES);
        if (size <= 0) return only_waits(c, size);
        hear(c, space, (size_t)size);
    } while (!c->is_over && (delay > 0 || SSL_has_pending(c->ssl)));
    return 1;
}

/* The replies so far, to the socket or to the delayed line; 0 if the connection is over. */
static int speak(Connection *c) {
    if (c->ssl != NULL && !SSL_is_init_finished(c->ssl)) {
        int result = SSL_do_handshake(c->ssl);
        if (result <= 0 && !only_waits(c, result)) return 0;
    }
    c->wants_write = 0;
    if (c->reply.size > 0 && (c->ssl == NULL || SSL_is_init_finished(c->ssl))) {
        ssize_t size = (ssize_t)c->reply.size;
        if (c->ssl != NULL) {
            size = SSL_write(c->ssl, c->reply.data, (int)c->reply.size);
            if (size <= 0 && !only_waits(c, (int)size)) return 0;
        } else if (delay > 0) {
            push(&c->out, c->reply.data, c->reply.size);
        } else {
            size = send(c->fd, c->reply.data, c->reply.size, 0);
            if (size < 0 && errno != EAGAIN) return 0;
            c->wants_write = size < (ssize_t)c->reply.size;
        }
        if (size > 0) {
            c->reply.size -= (size_t)size;
            memmove(c->reply.data, c->reply.data + size, c->reply.size);
        }
    }
    if (c->said != NULL) {
        char *data;
        long size = BIO_get_mem_data(c->said, &data);
        if (size > 0) {
            push(&c->out, data, (size_t)size);
            BIO_reset(c->said);
        }
    }
    return !c->is_over || c->wants_write || c->out.first != NULL;
}

static int serve_at_once(Connection *c, short events, char *space) {
    if (events & (POLLIN | POLLHUP | POLLERR)) {
        if (c->ssl != NULL) {
            if (!hear_tls(c, space)) return 0;
        } else {
            ssize_t size = recv(c->fd, space, READ_BYTES, 0);
            if (size == 0 || (size < 0 && errno != EAGAIN)) return 0;
            if (size > 0) hear(c, space, (size_t)size);
        }
    }
    return speak(c);
}

static int serve_delayed(Connection *c, short events, char *space) {
    if (events & (POLLIN | POLLHUP | POLLERR)) {
        ssize_t size = recv(c->fd, space, READ_BYTES, 0);
        if (size == 0 || (size < 0 && errno != EAGAIN)) return 0;
        if (size > 0) push(&c->in, space, (size_t)size);
    }
    int64_t at = now();
    while (c->in.first != NULL && c->in.first->due <= at) {
        Chunk *chunk = c->in.first;
        if (c->ssl != NULL) {
            BIO_write(c->heard, chunk->data, (int)chunk->size);
            if (!hear_tls(c, space)) return 0;
        } else {
            hear(c, chunk->data, chunk->size);
        }
        pop(&c->in);
    }
    if (!speak(c)) return 0;
    while (c->out.first != NULL && c->out.first->due <= at) {
        Chunk *chunk = c->out.first;
        ssize_t size = send(c->fd, chunk->data + chunk->done, chunk->size - chunk->done, 0);
        if (size < 0 && errno != EAGAIN) return 0;
        if (size > 0) chunk->done += (size_t)size;
        if (chunk->done < chunk->size) {
            c->wants_write = 1;
            break;
        }
        pop(&c->out);
    }
    return !c->is_over || c->out.first != NULL;
}

/* Until the next delayed bytes are due, in milliseconds; -1: nothing waits. */
static int wait_ms(void) {
    int64_t due = INT64_MAX;
    for (size_t i = 0; i < number && delay > 0; i++) {
        Queue *queues[] = {&connections[i]->in, &connections[i]->out};
        for (int q = 0; q < 2; q++)
            if (queues[q]->first != NULL && queues[q]->first->due < due)
                due = queues[q]->first->due;
    }
    if (due == INT64_MAX) return -1;
    int64_t left = due - now();
    return left <= 0 ? 0 : (int)((left + 999999) / 1000000);
}

/* Standard input: 0 when it has ended. */
static int listen_to_master(void) {
    static char line[256];
    static size_t size;
    ssize_t more = read(0, line + size, sizeof line - 1 - size);
    if (more <= 0) return 0;
    size += (size_t)more;
    line[size] = '\0';
    if (strchr(line, '\n') != NULL) {
        sscanf(line, "watch %ld %lu %lu", &watched, &first_mark, &last_mark);
        size = 0;
    }
    return 1;
}

static SSL_CTX *make_tls(const char *certificate, const char *key) {
    if (strcmp(certificate, "-") == 0) return NULL;
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    if (tls == NULL || SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
        fail("certificate");
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (delay == 0) {
        SSL_CTX_set_read_ahead(tls, 1);
        SSL_CTX_set_default_read_buffer_len(tls, READ_BYTES);
    }
    return tls;
}

static int listen_on_loopback(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 512) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        fail("listen");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void write_capture(const char *path) {
    FILE *file = fopen(path, "wb");
    if (file == NULL) fail(path);
    for (Block *block = first_block; block != NULL; block = block->next)
        if (fwrite(block->data, 1, block->size, file) != block->size) fail(path);
    if (fclose(file) != 0) fail(path);
}

int main(int argc, char **argv) {
    if (argc < 6) {
        fprintf(stderr, "sink CERTIFICATE KEY CAPTURE DELAY_MS KEEP [PIPELINING] [CHUNKING]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    delay = atoll(argv[4]) * 1000000;
    keep = strtoul(argv[5], NULL, 10);
    strcpy(greeting, "250-sink.example\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n");
    for (int i = 6; i < argc && i < 10; i++)
        snprintf(greeting + strlen(greeting), sizeof greeting - strlen(greeting), "250-%.40s\r\n",
                 argv[i]);
    strcat(greeting, "250-ENHANCEDSTATUSCODES\r\n250 SMTPUTF8\r\n");
    SSL_CTX *tls = make_tls(argv[1], argv[2]);
    int listening = listen_on_loopback();
    char *space = checked(malloc(READ_BYTES));
    polled = checked(malloc(2 * sizeof *polled));
    for (;;) {
        size_t known = number;
        polled[0] = (struct pollfd){.fd = 0, .events = POLLIN};
        polled[1] = (struct pollfd){.fd = listening, .events = POLLIN};
        for (size_t i = 0; i < known; i++)
            polled[i + 2] = (struct pollfd){
                .fd = connections[i]->fd,
                .events = (short)(POLLIN | (connections[i]->wants_write ? POLLOUT : 0)),
            };
        if (poll(polled, (nfds_t)known + 2, wait_ms()) < 0 && errno != EINTR) fail("poll");
        for (size_t i = known; i-- > 0;) { /* from the end: a dropped one is replaced by the last */
            Connection *c = connections[i];
            short events = polled[i + 2].revents;
            c->wants_write = 0;
            if (delay > 0 ? !serve_delayed(c, events, space)
                          : events != 0 && !serve_at_once(c, events, space))
                drop(i);
        }
        if (polled[1].revents != 0 && welcome(listening, tls) && tls == NULL &&
            !speak(connections[number - 1]))
            drop(number - 1);
        if (polled[0].revents != 0 && !listen_to_master()) break;
    }
    write_capture(argv[3]);
    return 0;
}
