// Encodes and decodes texts by a table of tokens, the file that is the argument. In: for each text its length, u32, and its
// bytes. Out: for each the number of its ids, u32, the ids, and then the bytes that they stand for, as many as the text had.
// Ends with 3 if the table is refused.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "model.h"
#include "tokens.h"

static void *read_all(const char *file, size_t *bytes) {
    FILE *in = fopen(file, "rb");
    if (!in || fseek(in, 0, SEEK_END)) exit(1);
    *bytes = (size_t)ftell(in);
    rewind(in);
    void *at = malloc(*bytes);
    if (*bytes > 0 && (!at || fread(at, 1, *bytes, in) != *bytes)) exit(1);
    fclose(in);
    return at;
}

int main(int argc, char **argv) {
    if (argc != 2) return 1;
    size_t bytes;
    uint8_t *table = read_all(argv[1], &bytes);
    struct tokens tokens;
    if (!tokens_open(&tokens, table, bytes)) {
        free(table);
        return 3;
    }
    uint32_t length;
    while (fread(&length, sizeof length, 1, stdin) == 1) {
        char *text = malloc(length + 1);
        uint32_t *ids = malloc((length + 1) * sizeof *ids);
        if (!text || !ids || fread(text, 1, length, stdin) != length) return 1;
        uint32_t n = (uint32_t)tokens_encode(&tokens, text, length, ids);
        fwrite(&n, sizeof n, 1, stdout);
        fwrite(ids, sizeof *ids, n, stdout);
        for (uint32_t i = 0; i < n; i++) {
            size_t written;
            const uint8_t *at = tokens_text(&tokens, ids[i], &written);
            fwrite(at, 1, written, stdout);
        }
        free(text);
        free(ids);
    }
    free(table);
    return 0;
}
