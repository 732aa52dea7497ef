// Calls one function after another in an emulated CPU: what comes in on standard input is the code and its arguments,
// what goes out on standard output are the buffers that it wrote.
//
// All numbers are 64 bits, little-endian. In: bytes of code, where in it the function starts, how it is called (0, with the
// address of an array of its arguments; 1, with the arguments themselves; 2, so by as many threads at once as argument 9
// says, each with its number as argument 8), number of arguments; the code; then each argument, its kind and a number: 0, a
// value, that number; 1, a buffer to read, its bytes behind; 2, a buffer to write, its bytes behind; 3, the address of a
// function in which those threads meet. Out: 0, or 1 if something in front of a buffer was written; what the function
// returned; then the buffers of kind 2.
//
// Every buffer ends where a page begins that may not be touched, and those of kind 1 may not be written: a fault kills the
// program, which the other side reports.

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MAX_ARGS = 12, GAP = 0xa5 };
enum { ARRAY = 0, DIRECT = 1, THREADS = 2, MAX_THREADS = 8 };
enum { VALUE = 0, READ = 1, WRITE = 2, MEET = 3 };

typedef uint64_t direct(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t);
typedef void array(const uint64_t *);

struct buffer {
    uint64_t kind;
    uint8_t *mapping, *first, *start;
    size_t mapped, bytes;
};

static size_t page;

static void must(int ok, const char *what) {
    if (ok) return;
    (void)!write(2, what, strlen(what));
    (void)!write(2, "\n", 1);
    exit(2);
}

// Fills all of `to`; 0 if the input ends before its first byte.
static int get(void *to, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t n = read(0, (uint8_t *)to + done, bytes - done);
        if (n == 0 && done == 0) return 0;
        must(n > 0, "the input ends within a request");
        done += n;
    }
    return 1;
}

static void put(const void *from, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(1, (const uint8_t *)from + done, bytes - done);
        must(n > 0, "nobody reads the results");
        done += n;
    }
}

static uint64_t get_number(void) {
    uint64_t v = 0;
    must(get(&v, sizeof v), "the input ends within a request");
    return v;
}

static uint8_t *map(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(at != MAP_FAILED, "no memory");
    return at;
}

static size_t whole_pages(size_t bytes) { return (bytes + page - 1) / page * page; }

static void receive(struct buffer *b, uint64_t kind, size_t bytes) {
    size_t inner = whole_pages(bytes);
    b->kind = kind;
    b->bytes = bytes;
    b->mapped = inner + 2 * page;
    b->mapping = map(b->mapped);
    b->first = b->mapping + page;
    b->start = b->first + inner - bytes;
    memset(b->first, GAP, b->start - b->first);
    must(bytes == 0 || get(b->start, bytes), "the input ends within a request");
    must(mprotect(b->mapping, page, PROT_NONE) == 0, "mprotect");
    must(mprotect(b->first + inner, page, PROT_NONE) == 0, "mprotect");
    if (kind == READ && inner > 0) must(mprotect(b->first, inner, PROT_READ) == 0, "mprotect");
}

static pthread_barrier_t barrier;

static void meet(void *unused) {
    (void)unused;
    pthread_barrier_wait(&barrier);
}

struct call {
    direct *function;
    uint64_t args[MAX_ARGS], result;
};

static void *run(void *of) {
    struct call *call = of;
    uint64_t *a = call->args;
    call->result = call->function(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]);
    return NULL;
}

// Calls the function on threads 0 to n - 1; gives what all of them returned.
static uint64_t run_threads(direct *function, const uint64_t *args, uint64_t n) {
    pthread_t threads[MAX_THREADS];
    struct call calls[MAX_THREADS];
    must(n > 0 && n <= MAX_THREADS, "no such number of threads");
    must(pthread_barrier_init(&barrier, NULL, n) == 0, "no barrier");
    for (uint64_t i = 0; i < n; i++) {
        calls[i].function = function;
        memcpy(calls[i].args, args, sizeof calls[i].args);
        calls[i].args[8] = i;
        must(pthread_create(&threads[i], NULL, run, &calls[i]) == 0, "no thread");
    }
    for (uint64_t i = 0; i < n; i++) pthread_join(threads[i], NULL);
    for (uint64_t i = 1; i < n; i++)
        must((uint32_t)calls[i].result == (uint32_t)calls[0].result, "threads returned different results");
    pthread_barrier_destroy(&barrier);
    return calls[0].result;
}

int main(void) {
    page = sysconf(_SC_PAGESIZE);
    // Faults are expected, and nobody looks at what they leave.
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    uint64_t code_bytes;
    while (get(&code_bytes, sizeof code_bytes)) {
        uint64_t entry = get_number(), convention = get_number(), n = get_number();
        must(n <= MAX_ARGS && entry < code_bytes && convention <= THREADS, "no such request");
        size_t mapped = whole_pages(code_bytes);
        uint8_t *code = map(mapped);
        must(get(code, code_bytes), "the input ends within a request");
        must(mprotect(code, mapped, PROT_READ | PROT_EXEC) == 0, "mprotect");
        __builtin___clear_cache((char *)code, (char *)code + code_bytes);

        uint64_t args[MAX_ARGS] = {0};
        struct buffer buffers[MAX_ARGS];
        size_t used = 0;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t kind = get_number(), number = get_number();
            must(kind <= MEET, "no such kind of argument");
            if (kind == VALUE) {
                args[i] = number;
            } else if (kind == MEET) {
                args[i] = (uint64_t)meet;
            } else {
                receive(&buffers[used], kind, number);
                args[i] = (uint64_t)buffers[used++].start;
            }
        }
        uint64_t result = 0, status = 0;
        if (convention == ARRAY)
            ((array *)(code + entry))(args);
        else if (convention == THREADS)
            result = run_threads((direct *)(code + entry), args, args[9]);
        else {
            struct call call = {(direct *)(code + entry), {0}, 0};
            memcpy(call.args, args, sizeof call.args);
            run(&call);
            result = call.result;
        }

        for (size_t i = 0; i < used; i++)
            for (uint8_t *at = buffers[i].first; at < buffers[i].start; at++) status |= *at != GAP;
        put(&status, sizeof status);
        put(&result, sizeof result);
        for (size_t i = 0; i < used; i++) {
            if (buffers[i].kind == WRITE) put(buffers[i].start, buffers[i].bytes);
            munmap(buffers[i].mapping, buffers[i].mapped);
        }
        munmap(code, mapped);
    }
    return 0;
}
