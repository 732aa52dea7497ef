// Which level a compiled model chooses: for each argument, bits of features, the status of `state_init`, and if that is 0 the
// level's index, which the state has in its word at byte 20.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

int main(int argc, char **argv) {
    uint64_t bytes = model_state_bytes(1, 1, TERN_KV_F32);
    uint8_t *state = aligned_alloc(TERN_ALIGN_BYTES, (bytes + TERN_ALIGN_BYTES - 1) / TERN_ALIGN_BYTES * TERN_ALIGN_BYTES);
    if (bytes == 0 || !state) return 1;
    for (int i = 1; i < argc; i++) {
        memset(state, 0, bytes);
        uint32_t level, status = model_state_init(state, 1, 1, TERN_KV_F32, (uint32_t)strtoul(argv[i], NULL, 10));
        memcpy(&level, state + 20, sizeof level);
        if (status) printf("%" PRIu32 "\n", status);
        else printf("0 %" PRIu32 "\n", level);
    }
    free(state);
    return 0;
}
