// A conversation with a compiled model: a line in, its continuation out, as it comes.
//
//   tern build MODEL --emit obj --prefix demo -o demo.o      (writes demo.h beside it)
//   cc -std=c11 -O2 -pthread -DPREFIX=demo chat.c demo.o -lm -o chat
//   ./chat [-w WEIGHTS] [-t THREADS] [-n TOKENS] [-c CONTEXT] [--temp T] [--seed S] [--features BITS] [--ids]
//
// What the model has read and said stays in its cache, so a line continues all before it. With --ids lines are token ids,
// separated by commas, and so is what comes out.

#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined __aarch64__ || defined __riscv
#include <sys/auxv.h>
#endif

#ifndef PREFIX
#define PREFIX model
#endif
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define MODEL(name) JOIN(PREFIX, name)
#define QUOTE_(text) #text
#define QUOTE(text) QUOTE_(text)

#include QUOTE(PREFIX.h)
#include "tokens.h"

enum { MAX_THREADS = 64, SAMPLED_FROM = 40, SPINS = 2000 };

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("chat: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void must(uint32_t status, const char *function) {
    if (status == TERN_STATUS_BAD_CPU) die("%s: this CPU lacks features that the code needs", function);
    if (status != TERN_STATUS_OK) die("%s: status %" PRIu32 "; TERN_STATUS_ in the header says why", function, status);
}

// ---- Threads: they sleep between steps and meet often within one ----

struct barrier {
    atomic_uint arrived, round;
    unsigned n_threads;
};

// Spins a little, then lets others run: there may be fewer cores than threads.
static void meet(void *of) {
    struct barrier *b = of;
    unsigned round = atomic_load_explicit(&b->round, memory_order_acquire);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) + 1 == b->n_threads) {
        // Nobody comes to the next round before its number changes.
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&b->round, round + 1, memory_order_release);
        return;
    }
    for (unsigned turn = 0; atomic_load_explicit(&b->round, memory_order_acquire) == round; turn++)
        if (turn >= SPINS) sched_yield();
}

struct crew {
    const uint8_t *weights;
    uint8_t *state;
    // The step in hand, read by all of its threads.
    const uint32_t *ids;
    uint32_t n, pos, want;
    float *out;
    // How many steps have begun, or that no more will.
    pthread_mutex_t lock;
    pthread_cond_t begun;
    unsigned steps, over;
    struct barrier barrier;
    struct worker {
        struct crew *crew;
        uint32_t tid;
        pthread_t thread;
    } workers[MAX_THREADS];
};

static uint32_t run_step(struct crew *c, uint32_t tid) {
    uint32_t status = MODEL(step)(c->weights, c->state, c->ids, c->n, c->pos, 0, c->want, c->out, tid,
                                  c->barrier.n_threads, meet, &c->barrier);
    // The next step may start when all have returned from this one.
    meet(&c->barrier);
    return status;
}

static void *work(void *of) {
    struct worker *worker = of;
    struct crew *c = worker->crew;
    for (unsigned seen = 0;; seen++) {
        pthread_mutex_lock(&c->lock);
        while (c->steps == seen && !c->over) pthread_cond_wait(&c->begun, &c->lock);
        int over = c->steps == seen;
        pthread_mutex_unlock(&c->lock);
        if (over) return NULL;
        run_step(c, worker->tid);
    }
}

static void begin(struct crew *c, unsigned over) {
    pthread_mutex_lock(&c->lock);
    c->steps += !over;
    c->over = over;
    pthread_cond_broadcast(&c->begun);
    pthread_mutex_unlock(&c->lock);
}

static void start(struct crew *c, unsigned n_threads) {
    c->barrier.n_threads = n_threads;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->begun, NULL);
    for (unsigned tid = 1; tid < n_threads; tid++) {
        c->workers[tid].crew = c;
        c->workers[tid].tid = tid;
        if (pthread_create(&c->workers[tid].thread, NULL, work, &c->workers[tid])) die("no thread %u", tid);
    }
}

static void stop(struct crew *c) {
    begin(c, 1);
    for (unsigned tid = 1; tid < c->barrier.n_threads; tid++) pthread_join(c->workers[tid].thread, NULL);
    pthread_cond_destroy(&c->begun);
    pthread_mutex_destroy(&c->lock);
}

// ---- What the model needs of the machine ----

// What the CPU has, for code that cannot ask it.
static uint32_t cpu_features(void) {
#if defined __aarch64__
    int dotprod = getauxval(AT_HWCAP) >> 20 & 1; // HWCAP_ASIMDDP
    return TERN_FEATURE_NEON | (dotprod ? TERN_FEATURE_DOTPROD : 0);
#elif defined __riscv
    if (!(getauxval(AT_HWCAP) >> ('V' - 'A') & 1)) die("this CPU lacks vectors (the V extension)");
    return TERN_FEATURE_RVV;
#else
    return 0;
#endif
}

// The weights that were linked, or those of a file, mapped. The kernel reads what is touched.
static const uint8_t *open_weights(const char *file) {
#if MODEL(HAS_WEIGHTS)
    if (!file) return MODEL(weights);
#endif
    if (!file) die("this model does not carry its weights: give -w FILE");
    int fd = open(file, O_RDONLY);
    struct stat found;
    if (fd < 0 || fstat(fd, &found)) die("%s: %s", file, strerror(errno));
    if ((uint64_t)found.st_size != MODEL(info).weights_bytes)
        die("%s has %" PRId64 " bytes, the weights of this model %" PRIu64, file, (int64_t)found.st_size,
            MODEL(info).weights_bytes);
    void *at = mmap(NULL, (size_t)found.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED) die("%s: %s", file, strerror(errno));
    close(fd);
    return at;
}

// ---- The conversation ----

struct chat {
    struct crew crew;
    struct tokens tokens;
    uint32_t context, pos;  // room, and how much of it is taken
    uint32_t unread;        // the last token that was said, which the model has not read yet
    uint32_t max_tokens, k; // of an answer, and from how many to choose
    double temperature;
    uint64_t random;
    int as_ids;
};

// The next token: of the k largest logits, ids first, then values.
static uint32_t choose(struct chat *chat, const float *largest) {
    uint32_t ids[SAMPLED_FROM];
    double weight[SAMPLED_FROM], sum = 0;
    memcpy(ids, largest, chat->k * sizeof *ids);
    if (chat->k == 1) return ids[0];
    for (uint32_t i = 0; i < chat->k; i++)
        sum += weight[i] = exp((largest[chat->k + i] - largest[chat->k]) / chat->temperature);
    chat->random ^= chat->random << 13; // xorshift, Marsaglia 2003
    chat->random ^= chat->random >> 7;
    chat->random ^= chat->random << 17;
    double left = (double)(chat->random >> 11) / 9007199254740992.0 * sum;
    for (uint32_t i = 0; i + 1 < chat->k; i++)
        if ((left -= weight[i]) < 0) return ids[i];
    return ids[chat->k - 1];
}

// Lets the model read ids, and gives the token that it would say next.
static uint32_t read_ids(struct chat *chat, const uint32_t *ids, size_t n) {
    struct crew *c = &chat->crew;
    float out[2 * SAMPLED_FROM];
    for (size_t done = 0; done < n;) {
        size_t left = n - done, most = MODEL(info).max_step_tokens;
        c->ids = ids + done;
        c->n = (uint32_t)(left < most ? left : most);
        c->pos = chat->pos;
        c->want = left <= most ? TERN_WANT_TOP_K | chat->k << 8 : TERN_WANT_NONE;
        c->out = out;
        begin(c, 0);
        must(run_step(c, 0), "step");
        chat->pos += c->n;
        done += c->n;
    }
    uint32_t bad;
    memcpy(&bad, c->state + TERN_STATE_BAD_ID, sizeof bad);
    if (bad != TERN_NO_TOKEN) die("the logit of token %" PRIu32 " is no number", bad);
    return choose(chat, out);
}

static int ends_text(uint32_t id) {
    for (uint32_t i = 0; i < MODEL(info).n_eos; i++)
        if (MODEL(info).eos[i] == id) return 1;
    return 0;
}

static void say(const struct chat *chat, uint32_t id, int first) {
    size_t bytes;
    const uint8_t *text = tokens_text(&chat->tokens, id, &bytes);
    if (chat->as_ids) printf("%s%" PRIu32, first ? "" : ",", id);
    else fwrite(text, 1, bytes, stdout);
    fflush(stdout);
}

// Reads n ids and answers them.
static void answer(struct chat *chat, const uint32_t *ids, size_t n) {
    if (n > chat->context) {
        fprintf(stderr, "chat: %zu tokens are more than the context of %" PRIu32 "\n", n, chat->context);
        return;
    }
    if (n > chat->context - chat->pos) {
        fprintf(stderr, "chat: the context of %" PRIu32 " tokens is full, and all before is forgotten\n", chat->context);
        must(MODEL(truncate)(chat->crew.state, 0, 0), "truncate");
        chat->pos = 0;
    }
    uint32_t id = read_ids(chat, ids, n);
    for (uint32_t said = 0; said < chat->max_tokens && !ends_text(id); said++) {
        if (said > 0) id = read_ids(chat, &chat->unread, 1);
        if (ends_text(id)) break;
        say(chat, id, said == 0);
        chat->unread = id;
        if (chat->pos == chat->context) break;
    }
    if (ends_text(id)) chat->unread = id;
    putchar('\n');
    fflush(stdout);
}

// The ids of a line; `ids` has room for two more than it has bytes.
static size_t ids_of_line(struct chat *chat, char *line, size_t bytes, uint32_t *ids) {
    size_t n = 0;
    if (chat->pos > 0 && chat->unread != TERN_NO_TOKEN) ids[n++] = chat->unread;
    chat->unread = TERN_NO_TOKEN;
    if (!chat->as_ids) {
        if (chat->pos == 0 && MODEL(info).bos != TERN_NO_TOKEN) ids[n++] = MODEL(info).bos;
        return n + tokens_encode(&chat->tokens, line, bytes, ids + n);
    }
    for (char *at = line, *end; *at; at = *end ? end + 1 : end) {
        unsigned long id = strtoul(at, &end, 10);
        if (end == at || (*end && *end != ',') || id >= MODEL(info).vocab)
            die("%s: expected ids below %" PRIu32 ", with commas between them", at, MODEL(info).vocab);
        ids[n++] = (uint32_t)id;
    }
    return n;
}

static void converse(struct chat *chat) {
    char *line = NULL;
    size_t room = 0;
    for (;;) {
        if (isatty(0)) fputs("> ", stdout), fflush(stdout);
        ssize_t bytes = getline(&line, &room, stdin);
        if (bytes < 0) break;
        if (bytes > 0 && line[bytes - 1] == '\n') line[--bytes] = 0;
        if (bytes == 0) continue;
        uint32_t *ids = malloc(((size_t)bytes + 2) * sizeof *ids);
        if (!ids) die("no memory for a line of %zd bytes", bytes);
        answer(chat, ids, ids_of_line(chat, line, (size_t)bytes, ids));
        free(ids);
    }
    free(line);
}

static double number(const char *option, const char *value, double least, double most) {
    char *end = NULL;
    double number = value ? strtod(value, &end) : 0;
    if (!value || end == value || *end || !(number >= least && number <= most))
        die("%s takes a number from %g to %g", option, least, most);
    return number;
}

int main(int argc, char **argv) {
    const tern_info *info = &MODEL(info);
    if (info->abi_version != TERN_ABI_VERSION) die("the model is of another ABI than its header");
    static struct chat chat = {.max_tokens = 64, .k = 1, .random = 1, .unread = TERN_NO_TOKEN};
    const char *weights = NULL;
    unsigned n_threads = 2;
    uint32_t features = cpu_features();
    chat.context = info->max_context;
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = argv[i + 1];
        if (!strcmp(option, "--ids")) {
            chat.as_ids = 1;
            continue;
        }
        if (!strcmp(option, "-w") && value) weights = value;
        else if (!strcmp(option, "-t")) n_threads = (unsigned)number(option, value, 1, MAX_THREADS);
        else if (!strcmp(option, "-n")) chat.max_tokens = (uint32_t)number(option, value, 1, UINT32_MAX);
        else if (!strcmp(option, "-c")) chat.context = (uint32_t)number(option, value, 1, info->max_context);
        else if (!strcmp(option, "--temp")) chat.temperature = number(option, value, 0, 100);
        else if (!strcmp(option, "--seed")) chat.random = (uint64_t)number(option, value, 1, 1e15);
        else if (!strcmp(option, "--features")) features = (uint32_t)number(option, value, 0, UINT32_MAX);
        else die("%s: no such option, or it lacks its value", option);
        i++;
    }
    if (chat.temperature > 0) chat.k = info->max_top_k < SAMPLED_FROM ? info->max_top_k : SAMPLED_FROM;
    if (!tokens_open(&chat.tokens, MODEL(tokens), info->tokens_bytes)) die("the table of tokens is damaged");
    if (!chat.as_ids && chat.tokens.head.split == TERN_SPLIT_NONE) die("this model's tokens do not encode: use --ids");

    chat.crew.weights = open_weights(weights);
    uint64_t state_bytes = MODEL(state_bytes)(chat.context, 1, TERN_KV_F16);
    // Zeroed memory of which only what is used becomes real; aligned by hand.
    uint8_t *memory = calloc(1, state_bytes + TERN_ALIGN_BYTES);
    if (!state_bytes || !memory) die("no memory for a context of %" PRIu32 " tokens", chat.context);
    chat.crew.state = memory + (TERN_ALIGN_BYTES - (uintptr_t)memory % TERN_ALIGN_BYTES) % TERN_ALIGN_BYTES;
    must(MODEL(state_init)(chat.crew.state, chat.context, 1, TERN_KV_F16, features), "state_init");

    start(&chat.crew, n_threads);
    converse(&chat);
    stop(&chat.crew);
    free(memory);
    return 0;
}
