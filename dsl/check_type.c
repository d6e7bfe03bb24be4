/* check_type - which values may meet, and what may be stored where. */
#include <string.h>

#include "dsl/check.h"

/* Arithmetic is done in f32 and on integers; narrower values are converted by name. */
bool check_has_arithmetic(struct ty t)
{
    if (t.param) {
        for (int i = 0; i < t.param->list.n; i++)
            if (!check_has_arithmetic(ty_of(t.param->list.at[i]->type))) return false;
        return true;
    }
    return !t.type || t.literal || t.type == TY_f32 || !type_is_float(t.type);
}

const char *check_ty_text(struct check *c, struct ty t)
{
    if (!t.param) return t.type ? type_name(t.type) : "unknown";
    const char *text = arena_printf(c->arena, "%s (", t.param->name);
    for (int i = 0; i < t.param->list.n; i++)
        text = arena_printf(c->arena, "%s%s%s", text, i ? " | " : "", type_name(t.param->list.at[i]->type));
    return arena_printf(c->arena, "%s)", text);
}

/* What to write to convert to t: "bf16", "OUT". */
const char *check_cast_name(struct ty t)
{
    return t.param ? t.param->name : type_name(t.type);
}

struct ty check_word_type(struct check *c, enum type type, const char *text, struct span at)
{
    if (!text) return ty_of(type);
    const char *names[64 + TY_COUNT];
    int n = 0;
    for (int i = 0; c->kernel && i < c->kernel->list.n && n < 64; i++) {
        struct node *p = c->kernel->list.at[i];
        if (p->list.at[0]->kind != N_typename) {
            if (strcmp(p->name, text)) continue;
            diag_error(c->diag, at, "parameter '%s' stands for numbers or words, not for types", text);
            diag_note(c->diag, p->name_span, "declared here; %s = f32 | bf16 would make it a type", text);
            return ty_of(TY_none);
        }
        names[n++] = p->name;
        if (!strcmp(p->name, text)) return (struct ty){ .param = p };
    }
    for (int t = TY_none + 1; t < TY_COUNT; t++) names[n++] = type_name((enum type)t);
    const char *near = diag_nearest(text, names, n);
    diag_error(c->diag, at, "there is no type '%s'%s%s%s", text, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    return ty_of(TY_none);
}

/* The type of x op y, both arithmetic; says what is wrong with them otherwise. */
struct ty check_join(struct check *c, struct node *n, struct ty x, struct ty y, bool *bad)
{
    struct ty both[2] = { x, y };
    for (int i = 0; i < 2; i++) {
        if (check_has_arithmetic(both[i])) continue;
        *bad = true;
        diag_error(c->diag, i == 0 && n->a ? n->a->span : n->b ? n->b->span : n->span, "there is no arithmetic on %s; write f32(...)",
                   check_ty_text(c, both[i]));
        return ty_of(TY_none);
    }
    if (!ty_known(x) || !ty_known(y)) return ty_of(TY_none);
    if (x.literal && y.literal) return ty_is_float(x) ? x : y;
    bool mixed = (x.literal ? ty_is_float(x) && ty_is_integer(y) : y.literal ? ty_is_float(y) && ty_is_integer(x)
                  : ty_is_float(x) != ty_is_float(y) && x.param == y.param);
    if (mixed) {
        *bad = true;
        diag_error(c->diag, n->span, "%s and %s do not mix; write f32(...) around the integer", check_ty_text(c, x), check_ty_text(c, y));
        return ty_of(TY_none);
    }
    if (x.literal) return y;
    if (y.literal) return x;
    if (x.param != y.param) {
        *bad = true;
        diag_error(c->diag, n->span, "%s and %s do not mix; write f32(...)", check_ty_text(c, x), check_ty_text(c, y));
        return ty_of(TY_none);
    }
    if (x.param) return x;
    if (type_bits(x.type) < 32) x = ty_of(TY_i32);
    if (type_bits(y.type) < 32) y = ty_of(TY_i32);
    if (type_bits(x.type) != type_bits(y.type)) return type_bits(x.type) > type_bits(y.type) ? x : y;
    return type_kind(x.type) == TYPE_UINT ? x : y;
}

void check_stored(struct check *c, const char *name, struct ty to, struct info from, struct node *value)
{
    if (from.bad || !ty_known(to) || !ty_known(from.ty)) return;
    if (from.ty.literal && (ty_is_integer(from.ty) || !ty_is_integer(to))) return;
    if (to.param == from.ty.param && to.type == from.ty.type) return;
    if (ty_is_integer(to) && ty_is_integer(from.ty) && type_bits(from.ty.type) <= type_bits(to.type)) return;
    if (ty_is_integer(to) && ty_is_integer(from.ty) && from.ty.type == TY_i32 && value->kind == N_cond) return;
    diag_error(c->diag, value->span, "'%s' holds %s, this is %s; write %s(...)", name, check_ty_text(c, to), check_ty_text(c, from.ty),
               check_cast_name(to));
}

