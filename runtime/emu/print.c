/* print - vprintf as kernels call it: a format and a block of values, which lie one behind the other, each aligned to its size
 * (CUDA C++ programming guide, "Formatted Output"). Goes to stdout, as a driver's does. */
#include "runtime/emu/core.h"

#include <stdio.h>

struct printer {
    struct emu_who who;
    uint64_t format, values; /* generic addresses */
    struct buf out;
};

static bool fetch(struct printer *s, uint64_t *from, void *to, uint32_t n)
{
    *from = (*from + n - 1) & ~(uint64_t)(n - 1);
    bool ok = emu_mem_load(&s->who, EMU_GENERIC, *from, to, n);
    *from += n;
    return ok;
}

static bool print_text(struct printer *s, uint64_t from)
{
    for (char c = 1; c;) {
        if (!fetch(s, &from, &c, 1))
            return false;
        if (c)
            buf_bytes(&s->out, &c, 1);
    }
    return true;
}

/* One conversion, `spec` from its % up to the letter that names it. */
static bool convert(struct printer *s, char *spec, int n, bool is_long)
{
    char letter = spec[n - 1];
    uint64_t v = 0;
    if (letter == '%')
        return buf_bytes(&s->out, "%", 1), true;
    bool real = strchr("eEfFgGaA", letter), wide = real || is_long || letter == 'p' || letter == 's';
    if (!strchr("diuoxXcpseEfFgGaA", letter))
        return emu_fault_who(&s->who, "printf has no conversion '%s'", spec);
    if (!fetch(s, &s->values, &v, wide ? 8 : 4))
        return false;
    if (letter == 's')
        return print_text(s, v);
    double d;
    memcpy(&d, &v, sizeof d);
    snprintf(spec + n - 1, 4, real || letter == 'c' ? "%c" : letter == 'p' ? "llx" : "ll%c", letter);
    if (real)
        buf_printf(&s->out, spec, d);
    else if (letter == 'c')
        buf_printf(&s->out, spec, (int)v);
    else
        buf_printf(&s->out, spec, strchr("di", letter) && !wide ? (long long)(int32_t)v : (long long)v);
    return true;
}

/* Flags, width and precision go to the host's printf, length words do not. */
static bool print_conversion(struct printer *s)
{
    char spec[32] = "%", c;
    int n = 1;
    bool is_long = false;
    do {
        if (!fetch(s, &s->format, &c, 1))
            return false;
        is_long |= c == 'l' || c == 'j' || c == 'z' || c == 't';
        if (!strchr("lhjzt", c))
            spec[n++] = c;
    } while (c && strchr("-+ #0123456789.lhjzt", c) && n < 24);
    spec[n] = 0;
    return convert(s, spec, n, is_long);
}

static bool print_line(struct printer *s)
{
    for (char c;;) {
        if (!fetch(s, &s->format, &c, 1))
            return false;
        if (!c)
            return true;
        if (c != '%')
            buf_bytes(&s->out, &c, 1);
        else if (!print_conversion(s))
            return false;
    }
}

static enum emu_next run_print(struct emu_warp *w, const struct emu_insn *in, uint32_t mask)
{
    const struct emu_addr *at = in->x;
    bool ok = true;
    FOR_LANES(l, mask) {
        struct printer s = {.who = *EMU_WHO(w, in, l)};
        ok = ok && emu_mem_load(&s.who, EMU_LOCAL, emu_addr_of(w, &at[0], l), &s.format, 8) &&
             emu_mem_load(&s.who, EMU_LOCAL, emu_addr_of(w, &at[1], l), &s.values, 8) && print_line(&s);
        if (ok && s.out.n)
            fwrite(s.out.at, 1, s.out.n, stdout);
        buf_free(&s.out);
    }
    return ok ? EMU_NEXT : EMU_FAULT;
}

bool emu_decode_print(struct emu_decode *d, struct emu_insn *in)
{
    struct emu_addr *at = new_n(d->arena, struct emu_addr, 2);
    in->run = run_print;
    in->x = at;
    return emu_mem(d, 0, &at[0]) && emu_mem(d, 1, &at[1]);
}
