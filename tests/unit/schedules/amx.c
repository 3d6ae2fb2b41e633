/* AMX for a process on a CPU that has none: each of its instructions ends in a signal, and is carried
   out here, on tiles of the thread's own. Shapes that do not go together end the process, as does
   whatever else is not known. Only what the project's kernels use is here.

   Source: Intel, Architecture Instruction Set Extensions Programming Reference, chapter 3. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define TILES 8
#define ROWS 16
#define ROW_BYTES 64

enum { NONE, P66, PF3, PF2 };

static __thread struct {
    int configured;
    int rows[TILES];
    int bytes[TILES];
    uint8_t data[TILES][ROWS][ROW_BYTES];
} tiles;

static const int REGISTERS[16] = {
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

struct instruction {
    int prefix, opcode, mod, reg, rm, vvvv;
    uint64_t base, index; /* of its memory, the index scaled */
    int length;
};

static void give_up(const char *why) {
    fprintf(stderr, "AMX: %s\n", why);
    abort();
}

static int decode(const uint8_t *code, greg_t *registers, struct instruction *found) {
    if (code[0] != 0xC4 || (code[1] & 31) != 2) return 0;
    int x = !(code[1] & 0x40) << 3, b = !(code[1] & 0x20) << 3;
    found->prefix = code[2] & 3;
    found->vvvv = (~code[2] >> 3) & 15;
    found->opcode = code[3];
    found->mod = code[4] >> 6;
    found->reg = (code[4] >> 3) & 7;
    found->rm = code[4] & 7;
    found->base = found->index = 0;
    found->length = 5;
    if (found->mod == 3) return 1;
    const uint8_t *at = code + 5;
    int absolute = found->mod == 0 && found->rm == 5, relative = absolute;
    if (found->rm == 4) {
        int sib = *at++, index = ((sib >> 3) & 7) | x;
        absolute = found->mod == 0 && (sib & 7) == 5;
        if (index != 4) found->index = (uint64_t)registers[REGISTERS[index]] << (sib >> 6);
        if (!absolute) found->base = registers[REGISTERS[(sib & 7) | b]];
    } else if (!absolute) {
        found->base = registers[REGISTERS[found->rm | b]];
    }
    if (found->mod == 1) {
        found->base += (int8_t)*at++;
    } else if (found->mod == 2 || absolute) {
        int32_t offset;
        memcpy(&offset, at, 4);
        at += 4;
        found->base += offset;
    }
    found->length = at - code;
    if (relative) found->base += (uint64_t)(code + found->length);
    return 1;
}

static void configure(const uint8_t *palette) {
    if (palette[0] != 1) give_up("there is only palette 1");
    memset(&tiles, 0, sizeof tiles);
    tiles.configured = 1;
    for (int tile = 0; tile < TILES; tile++) {
        tiles.bytes[tile] = palette[16 + 2 * tile] | palette[17 + 2 * tile] << 8;
        tiles.rows[tile] = palette[48 + tile];
        if (tiles.rows[tile] > ROWS || tiles.bytes[tile] > ROW_BYTES) give_up("a tile is too large");
    }
}

static void move(const struct instruction *one, int is_load) {
    if (one->rm != 4) give_up("a tile is addressed without a stride");
    for (int row = 0; row < tiles.rows[one->reg]; row++) {
        uint8_t *memory = (uint8_t *)(one->base + row * one->index);
        uint8_t *own = tiles.data[one->reg][row];
        memcpy(is_load ? own : memory, is_load ? memory : own, tiles.bytes[one->reg]);
    }
}

static float widened(const uint8_t *bfloat) {
    uint32_t bits = (uint32_t)(bfloat[0] | bfloat[1] << 8) << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static void multiply(int sum, int left, int right, int of_bytes) {
    int rows = tiles.rows[sum], columns = tiles.bytes[sum] / 4, depth = tiles.bytes[left] / 4;
    if (!tiles.rows[sum] || tiles.rows[left] != rows || tiles.bytes[right] != tiles.bytes[sum] ||
        tiles.rows[right] != depth)
        give_up("the shapes of a product do not go together");
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++) {
            uint8_t *to = tiles.data[sum][row] + 4 * column;
            int32_t whole;
            float real;
            memcpy(&whole, to, 4);
            memcpy(&real, to, 4);
            for (int step = 0; step < depth; step++) {
                const uint8_t *a = tiles.data[left][row] + 4 * step;
                const uint8_t *b = tiles.data[right][step] + 4 * column;
                for (int one = 0; one < 4; one++) whole += (int8_t)a[one] * (int8_t)b[one];
                real += widened(a) * widened(b) + widened(a + 2) * widened(b + 2);
            }
            memcpy(to, of_bytes ? (void *)&whole : (void *)&real, 4);
        }
}

static void handle(int number, siginfo_t *info, void *given) {
    (void)info;
    greg_t *registers = ((ucontext_t *)given)->uc_mcontext.gregs;
    struct instruction one;
    if (!decode((const uint8_t *)registers[REG_RIP], registers, &one)) {
        signal(number, SIG_DFL);
        return;
    }
    int kind = one.opcode << 2 | one.prefix;
    if (kind == (0x49 << 2 | NONE) && one.mod != 3)
        configure((const uint8_t *)(one.base + one.index));
    else if (!tiles.configured)
        give_up("no shapes were set");
    else if (kind == (0x49 << 2 | NONE))
        memset(&tiles, 0, sizeof tiles);
    else if (kind == (0x49 << 2 | PF2))
        memset(tiles.data[one.reg], 0, sizeof tiles.data[one.reg]);
    else if (kind == (0x4B << 2 | PF2) || kind == (0x4B << 2 | PF3))
        move(&one, one.prefix == PF2);
    else if (kind == (0x5E << 2 | PF2) || kind == (0x5C << 2 | PF3))
        multiply(one.reg, one.rm, one.vvvv, one.opcode == 0x5E);
    else
        give_up("an instruction is not known");
    registers[REG_RIP] += one.length;
}

__attribute__((constructor)) static void start(void) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, NULL);
}
