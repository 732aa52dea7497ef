// Text to token ids and back, by the table of tokens that a compiled model brings.
//
// The table is read where it lies: nothing is built or allocated. Include this behind the header of a model.
//
// Exact for texts in ASCII. Bytes of other characters all count as letters here, where the expressions of the tokenizers ask
// Unicode what is a letter, a digit or a space: such texts may be cut elsewhere. The ids still decode to the very same text, and
// those of words in letters, accented or not, are mostly the same. Special tokens are never made of text, whatever it says.

#ifndef TOKENS_H
#define TOKENS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct tokens {
    tern_tokens head;
    const tern_token *token; // by id
    const tern_merge *merge; // by left, then right
    const uint32_t *word;    // ids, by their bytes
    const uint8_t *text;
};

// Finds the parts of a table of so many bytes. 0 if they do not lie within it; then it must not be used.
static inline int tokens_open(struct tokens *t, const uint8_t *table, uint64_t bytes) {
    tern_tokens head;
    if (bytes < sizeof head) return 0;
    memcpy(&head, table, sizeof head);
    uint64_t merge_at = sizeof head + (uint64_t)head.n_tokens * sizeof(tern_token);
    uint64_t word_at = merge_at + (uint64_t)head.n_merges * sizeof(tern_merge);
    uint64_t text_at = word_at + (uint64_t)head.n_words * sizeof(uint32_t);
    if (head.bytes != bytes || text_at + head.text_bytes != bytes) return 0;
    t->head = head;
    t->token = (const tern_token *)(const void *)(table + sizeof head);
    t->merge = (const tern_merge *)(const void *)(table + merge_at);
    t->word = (const uint32_t *)(const void *)(table + word_at);
    t->text = table + text_at;
    for (uint32_t i = 0; i < head.n_tokens; i++)
        if ((uint64_t)t->token[i].start + t->token[i].bytes > head.text_bytes) return 0;
    for (uint32_t i = 0; i < head.n_merges; i++)
        if (t->merge[i].merged >= head.n_tokens) return 0;
    for (uint32_t i = 0; i < head.n_words; i++)
        if (t->word[i] >= head.n_tokens) return 0;
    return 1;
}

// The bytes of a token, if it is text; none otherwise.
static inline const uint8_t *tokens_text(const struct tokens *t, uint32_t id, size_t *bytes) {
    int is_text = id < t->head.n_tokens && t->token[id].kind == TERN_TOKEN_TEXT;
    *bytes = is_text ? t->token[id].bytes : 0;
    return is_text ? t->text + t->token[id].start : t->text;
}

// The token of exactly these bytes, or TERN_NO_TOKEN.
static inline uint32_t tokens_find(const struct tokens *t, const uint8_t *bytes, size_t n) {
    uint32_t low = 0, high = t->head.n_words;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const tern_token *token = &t->token[t->word[middle]];
        size_t common = n < token->bytes ? n : token->bytes;
        int order = memcmp(bytes, t->text + token->start, common);
        if (order == 0) order = n < token->bytes ? -1 : n > token->bytes;
        if (order == 0) return t->word[middle];
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return TERN_NO_TOKEN;
}

// The merge of two neighbours, or NULL.
static inline const tern_merge *tokens_merge(const struct tokens *t, uint32_t left, uint32_t right) {
    uint32_t low = 0, high = t->head.n_merges;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const tern_merge *merge = &t->merge[middle];
        if (merge->left == left && merge->right == right) return merge;
        if (left < merge->left || (left == merge->left && right < merge->right)) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

// The ids of one word; as many as it has bytes at the most. The time goes with the square of its length.
static inline size_t tokens_of_word(const struct tokens *t, const uint8_t *word, size_t bytes, uint32_t *ids) {
    if (t->head.whole_words && (ids[0] = tokens_find(t, word, bytes)) != TERN_NO_TOKEN) return 1;
    size_t n = 0;
    for (; n < bytes; n++) ids[n] = tokens_find(t, word + n, 1);
    for (;;) {
        const tern_merge *best = NULL;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const tern_merge *merge = tokens_merge(t, ids[i], ids[i + 1]);
            if (merge && (!best || merge->rank < best->rank)) best = merge, at = i;
        }
        if (!best) return n;
        ids[at] = best->merged;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

enum tokens_class { TOKENS_SPACE, TOKENS_LETTER, TOKENS_DIGIT, TOKENS_OTHER, TOKENS_END };

static inline enum tokens_class tokens_class(const uint8_t *p, const uint8_t *end) {
    if (p >= end) return TOKENS_END;
    if (*p == ' ' || (*p >= '\t' && *p <= '\r')) return TOKENS_SPACE;
    if (*p >= '0' && *p <= '9') return TOKENS_DIGIT;
    if (*p >= 0x80 || (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z')) return TOKENS_LETTER;
    return TOKENS_OTHER;
}

// How many bytes of one class follow each other.
static inline size_t tokens_run(const uint8_t *p, const uint8_t *end, enum tokens_class class) {
    size_t n = 0;
    while (tokens_class(p + n, end) == class) n++;
    return n;
}

// The bytes of an apostrophe and what belongs to it: 's, 't, 'm, 'd, 're, 've, 'll. 0 if there is none.
static inline size_t tokens_contraction(const uint8_t *p, const uint8_t *end, int any_case) {
    uint8_t lower[2] = {0, 0};
    for (int i = 0; i < 2 && p + 1 + i < end; i++) {
        int is_upper = p[1 + i] >= 'A' && p[1 + i] <= 'Z';
        lower[i] = any_case && is_upper ? (uint8_t)(p[1 + i] + 32) : p[1 + i];
    }
    if (*p != '\'' || lower[0] == 0) return 0;
    if (memchr("stmd", lower[0], 4)) return 2;
    return !memcmp(lower, "re", 2) || !memcmp(lower, "ve", 2) || !memcmp(lower, "ll", 2) ? 3 : 0;
}

// The bytes of the first word of a text that is not empty.
static inline size_t tokens_first_word(uint32_t split, const uint8_t *p, const uint8_t *end) {
    int llama3 = split == TERN_SPLIT_LLAMA3;
    size_t contraction = tokens_contraction(p, end, llama3);
    if (contraction) return contraction;
    enum tokens_class first = tokens_class(p, end), second = tokens_class(p + 1, end);
    int is_newline = *p == '\n' || *p == '\r';
    // Letters, with a space before them or, in Llama 3, any mark.
    if (first == TOKENS_LETTER) return tokens_run(p, end, first);
    if (second == TOKENS_LETTER && (llama3 ? first != TOKENS_DIGIT && !is_newline : *p == ' '))
        return 1 + tokens_run(p + 1, end, second);
    // Digits: a number, or three of it.
    if (first == TOKENS_DIGIT || (!llama3 && *p == ' ' && second == TOKENS_DIGIT)) {
        size_t space = first != TOKENS_DIGIT, digits = tokens_run(p + space, end, TOKENS_DIGIT);
        return space + (llama3 && digits > 3 ? 3 : digits);
    }
    // Marks, with a space before them and, in Llama 3, newlines behind.
    if (first == TOKENS_OTHER || (*p == ' ' && second == TOKENS_OTHER)) {
        size_t n = (first != TOKENS_OTHER) + tokens_run(p + (first != TOKENS_OTHER), end, TOKENS_OTHER);
        while (llama3 && p + n < end && (p[n] == '\n' || p[n] == '\r')) n++;
        return n;
    }
    // Spaces: in Llama 3 up to the last newline; else all but the one that the next word starts with.
    size_t n = tokens_run(p, end, TOKENS_SPACE);
    for (size_t i = n; llama3 && i > 0; i--)
        if (p[i - 1] == '\n' || p[i - 1] == '\r') return i;
    return p + n < end && n > 1 ? n - 1 : n;
}

// Writes the ids of a text, at most one for each of its bytes; gives how many. Only if head.split is not TERN_SPLIT_NONE.
static inline size_t tokens_encode(const struct tokens *t, const char *text, size_t bytes, uint32_t *ids) {
    const uint8_t *p = (const uint8_t *)text, *end = p + bytes;
    size_t n = 0;
    while (p < end) {
        size_t word = tokens_first_word(t->head.split, p, end);
        n += tokens_of_word(t, p, word, ids + n);
        p += word;
    }
    return n;
}

#endif
