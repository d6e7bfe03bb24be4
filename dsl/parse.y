/* parse - tokens to the tree of ast.def. Every action is one call; what a source may not mean is check's business. */
%code requires {
#include "dsl/front.h"
}
%code {
#include <stdio.h>
#include <string.h>

int dsl_yylex(DSL_YYSTYPE *v, struct span *at, struct front *f);
static void dsl_yyerror(struct span *at, struct front *f, const char *what);

/* From the first part's start to the last one's end; an empty rule stands where the text before it ended. */
#define YYLLOC_DEFAULT(cur, rhs, n)                                                                      \
    ((cur) = (n) ? (struct span){ YYRHSLOC(rhs, 1).lo, YYRHSLOC(rhs, n).hi }                             \
                 : (struct span){ YYRHSLOC(rhs, 0).hi, YYRHSLOC(rhs, 0).hi })

#define MK(node_kind, at, ...) ast_make(f->arena, (struct node){ .kind = N_##node_kind, .span = (at), __VA_ARGS__ })
#define BIN(op, at, x, y) MK(binary, at, .flag = op, .a = x, .b = y)
#define ADD(list, x) ast_add(f->arena, list, x)
#define ONE(x) ast_one(f->arena, x)
#define MANY(at, list) ast_carrier(f->arena, at, list)
#define NONE ((nodes){ 0 })

static struct node *call(struct front *f, struct span at, const char *name, struct span name_at, nodes args);
static struct node *reduction(struct front *f, struct span at, const char *name, struct span name_at, nodes binders, struct node *body);
static nodes plain(struct front *f, nodes binders);
static struct node *intrinsic(struct front *f, struct node *n, const char *effects, struct span at);
}

%define api.pure full
%define api.prefix {dsl_yy}
%define api.location.type {struct span}
%define parse.error custom
%define parse.lac full
%locations
%param {struct front *f}
%expect 0

%union {
    const char *name;
    int64_t num;
    double real;
    int flag;
    enum type type;
    struct type_word word;
    struct { int64_t m, n; } shape;
    struct node *n;
    nodes list;
    struct { struct node *value, *where, *other; } cond;
    struct { double tol; int exact; } tol;
}

/* Reserved words: spelled here and nowhere else. KERNEL is the first, PRINT the last. */
%token KERNEL "kernel" IMPORT "import" ITER "iter" YIELDS "yields" YIELD "yield" FN "fn" RETURN "return" INTRINSIC "intrinsic"
%token IN "in" OUT "out" INOUT "inout" INNER "inner" REQUIRE "require"
%token SPEC "spec" CHECK "check" GIVEN "given" RUN "run" TOL "tol" EXACT "exact" WHEN "when"
%token TUNE "tune" STEP "step" ON "on" CLUSTER "cluster"
%token AXIS "axis" SPLIT "split" BY "by" AT "at" GRID "grid" PERSISTENT "persistent" ORDER "order"
%token PIPE "pipe" AUTO "auto" VIEW "view" SHARED "shared" ROLE "role"
%token PRODUCE "produce" CONSUME "consume" ACCUM "accum" MMA "mma"
%token FOR "for" WHILE "while" IF "if" ELSE "else" WHERE "where" LET "let" VAR "var"
%token PAR "par" SCAN "scan" EACH "each" OF "of" ATOMIC "atomic" COMBINE "combine" ASSERT "assert" PRINT "print"
%token <type> TYPE "a type"
%token <name> ID "a name" STRING "a string"
%token <num> NUM "a number"
%token <real> REAL "a fraction"
%token <shape> SHAPE "a shape"
%token PLUSEQ "+=" SHL "<<" SHR ">>" LE "<=" GE ">=" EQ "==" NE "!=" AND "&&" OR "||" DOTS ".."

%right '?' ':'
%left OR
%left AND
%left '|'
%left '^'
%left '&'
%left EQ NE
%left '<' '>' LE GE
%left SHL SHR
%left '+' '-'
%left '*' '/' '%'
%precedence UNARY
%precedence THEN
%precedence ELSE

%type <n> top kernel param alt arg require item setting mapping tuning set elem axis upto split by source depth view block stmt
%type <n> iter parm fn intrinsic tparm bind value field number lval expr primary binder printed shared lets init
%type <list> params paramlist alts args arglist inner requires items when settings tunings onsets onset targets axes at optnames
%type <list> names fields views dims width parms optparms tparms optargs exprs binders binds values stmts tops ontargets prints
%type <list> opttparms
%type <word> type
%type <flag> dir asg persistent
%type <cond> cond
%type <tol> tol
%type <name> optid

%%
file: tops                                  { f->file->list = $1; } ;
tops: %empty                                { $$ = NONE; }
    | tops top                              { $$ = $2 ? ADD($1, $2) : $1; } ;
top: IMPORT STRING ';'                      { $$ = MK(import, @$, .text = $2, .name_span = @2); }
    | kernel | iter | fn | intrinsic
    | error ';'                             { $$ = NULL; yyerrok; }
    | error '{'                             { $$ = NULL; front_skip_block(f); yyerrok; } ;

kernel: KERNEL ID params '(' args ')' requires '{' items '}'
        { $$ = MK(kernel, @$, .name = $2, .name_span = @2, .list = $3, .list2 = $5,
                  .a = MK(block, @7, .list = $7), .b = MK(block, @9, .list = $9)); f->params = NULL; }
    | KERNEL ID params '(' args ')' requires '{' items error '}'    { $$ = NULL; f->params = NULL; yyerrok; }
    | KERNEL ID params '(' error ')' requires '{' items '}'         { $$ = NULL; f->params = NULL; } ;
params: %empty                              { $$ = NONE; f->params = NULL; }
    | '<' paramlist '>'                     { $$ = $2; nodes *p = new(f->arena, nodes); *p = $2; f->params = p; } ;
paramlist: param                            { $$ = ONE($1); }
    | paramlist ',' param                   { $$ = ADD($1, $3); } ;
param: ID '=' alts                          { $$ = MK(param, @$, .name = $1, .name_span = @1, .list = $3); } ;
alts: alt                                   { $$ = ONE($1); }
    | alts '|' alt                          { $$ = ADD($1, $3); } ;
alt: TYPE                                   { $$ = MK(typename, @$, .type = $1); }
    | ID                                    { $$ = MK(name, @$, .name = $1); }
    | NUM                                   { $$ = MK(int, @$, .num = $1); } ;
args: %empty                                { $$ = NONE; }
    | arglist ;
arglist: arg                                { $$ = ONE($1); }
    | arglist ',' arg                       { $$ = ADD($1, $3); } ;
arg: dir type ID dims inner
        { $$ = MK(arg, @$, .flag = $1, .type = $2.type, .text = $2.text, .name = $3, .name_span = @3, .list = $4, .list2 = $5); } ;
dir: IN                                     { $$ = 0; }
    | OUT                                   { $$ = 1; }
    | INOUT                                 { $$ = 2; } ;
inner: %empty                               { $$ = NONE; }
    | INNER '(' expr ')'                    { $$ = ast_split_or(f->arena, NONE, $3); } ;
type: TYPE                                  { $$ = (struct type_word){ .type = $1 }; }
    | ID                                    { $$ = (struct type_word){ .text = $1 }; } ;
requires: %empty                            { $$ = NONE; }
    | requires require                      { $$ = ADD($1, $2); } ;
require: REQUIRE expr                       { $$ = MK(require, @$, .a = $2, .text = front_text(f, @2)); } ;

items: %empty                               { $$ = NONE; }
    | items item                            { $$ = $2 ? ADD($1, $2) : $1; } ;
item: SPEC expr '=' cond tol when ';'
        { $$ = MK(spec, @$, .name_span = @1, .a = $2, .b = $4.value, .c = $4.where, .d = $4.other,
                  .real = $5.tol, .flag = $5.exact, .list = $6); }
    | SPEC CHECK block                      { $$ = MK(speccheck, @$, .name_span = @1, .a = $3); }
    | GIVEN lval '=' expr when ';'          { $$ = MK(given, @$, .name_span = @2, .a = $2, .b = $4, .list = $5); }
    | GIVEN lval '=' RUN ID '(' optargs ')' when ';'
        { $$ = MK(given, @$, .name_span = @2, .a = $2, .flag = 1, .list = $9,
                  .b = MK(call, ((struct span){ @5.lo, @8.hi }), .name = $5, .name_span = @5, .list = $7)); }
    | TUNE tunings ';'                      { $$ = MK(tune, @$, .list = $2); }
    | ON targets '{' onsets '}'             { $$ = MK(on, @$, .list = $2, .list2 = $4); }
    | ON targets '{' onsets error '}'       { $$ = NULL; yyerrok; }
    | AXIS axes ';'                         { $$ = MANY(@$, $2); }
    | GRID persistent '(' optnames ')' source ';'
        { $$ = MK(grid, @$, .flag = $2, .name_span = @1, .list = $4, .a = $6 && !$6->flag ? $6 : NULL, .b = $6 && $6->flag ? $6 : NULL); }
    | PIPE ID '[' depth ']' '{' fields '}'  { $$ = MK(pipe, @$, .name = $2, .name_span = @2, .a = $4, .list = $7); }
    | PIPE ID '[' AUTO ',' expr ']' '{' fields '}'
        { $$ = MK(pipe, @$, .name = $2, .name_span = @2, .b = $6, .list = $9); }
    | PIPE ID '[' depth ']' '{' fields error '}'                    { $$ = NULL; yyerrok; }
    | VIEW views ';'                        { $$ = MANY(@$, $2); }
    | shared
    | lets
    | ROLE ID width when block              { $$ = MK(role, @$, .name = $2, .name_span = @2, .list = $3, .list2 = $4, .a = $5); }
    | error ';'                             { $$ = NULL; yyerrok; }
    | error '{'                             { $$ = NULL; front_skip_block(f); yyerrok; } ;
when: %empty                                { $$ = NONE; }
    | WHEN expr                             { $$ = ONE($2); } ;
tol: %empty                                 { $$.tol = 0; $$.exact = 0; }
    | TOL number                            { $$.tol = $2->real; $$.exact = 0; }
    | EXACT                                 { $$.tol = 0; $$.exact = 1; } ;
number: NUM                                 { $$ = MK(float, @$, .real = (double)$1); }
    | REAL                                  { $$ = MK(float, @$, .real = $1); } ;

tunings: tuning                             { $$ = ONE($1); }
    | tunings ',' tuning                    { $$ = ADD($1, $3); } ;
tuning: setting | mapping ;
settings: setting                           { $$ = ONE($1); }
    | settings ',' setting                  { $$ = ADD($1, $3); } ;
setting: ID '=' set                         { $$ = MK(setting, @$, .name = $1, .name_span = @1, .a = $3); } ;
mapping: ID '(' ID ')' '=' set              { $$ = MK(setting, @$, .name = $1, .name_span = @1, .text = $3, .a = $6); }
    | ROLE ID '(' settings ')'              { $$ = MK(setting, @$, .name = intern("role"), .name_span = @2, .text = $2, .list = $4); }
    | CLUSTER '(' ID ':' set ')'            { $$ = MK(setting, @$, .name = intern("cluster"), .name_span = @3, .text = $3, .a = $5); } ;
set: value                                  { $$ = MK(set, @$, .list = ONE($1)); }
    | '{' values '}'                        { $$ = MK(set, @$, .list = $2); }
    | '{' values '}' '*' expr               { $$ = MK(set, @$, .list = $2, .a = $5); } ;
value: expr
    | SHAPE                                 { $$ = MK(shape, @$, .num = $1.m, .real = (double)$1.n); } ;
values: elem                                { $$ = ONE($1); }
    | values ',' elem                       { $$ = ADD($1, $3); } ;
elem: value
    | expr DOTS expr                        { $$ = MK(range, @$, .a = $1, .b = $3); }
    | expr DOTS expr STEP expr              { $$ = MK(range, @$, .a = $1, .b = $3, .c = $5); } ;
targets: ID                                 { $$ = ONE(MK(name, @$, .name = $1)); }
    | targets ',' ID                        { $$ = ADD($1, MK(name, @3, .name = $3)); } ;
onsets: %empty                              { $$ = NONE; }
    | onsets onset ';'                      { $$ = $2.n ? ADD($1, $2.at[0]) : $1; } ;
onset: tuning                               { $$ = ONE($1); }
    | error                                 { $$ = NONE; } ;

axes: axis                                  { $$ = ONE($1); }
    | axes ',' axis                         { $$ = ADD($1, $3); } ;
axis: ID '=' expr upto split by at
        { $$ = MK(axis, @$, .name = $1, .name_span = @1, .a = $3, .b = $4, .c = $5, .d = $6, .list = $7); } ;
upto: %empty                                { $$ = NULL; }
    | DOTS expr                             { $$ = $2; } ;
split: %empty                               { $$ = NULL; }
    | SPLIT expr                            { $$ = $2; } ;
by: %empty                                  { $$ = NULL; }
    | BY expr                               { $$ = $2; } ;
at: %empty                                  { $$ = NONE; }
    | AT expr                               { $$ = ONE($2); } ;
persistent: %empty                          { $$ = 0; }
    | PERSISTENT                            { $$ = 1; } ;
optnames: %empty                            { $$ = NONE; }
    | names ;
names: ID                                   { $$ = ONE(MK(name, @$, .name = $1)); }
    | names ',' ID                          { $$ = ADD($1, MK(name, @3, .name = $3)); } ;
source: %empty                              { $$ = NULL; }
    | ORDER ID '(' optargs ')'              { $$ = MK(call, ((struct span){ @2.lo, @5.hi }), .name = $2, .name_span = @2, .list = $4); }
    | IN ID '(' optargs ')'                 { $$ = MK(call, ((struct span){ @2.lo, @5.hi }), .name = $2, .name_span = @2, .list = $4, .flag = 1); } ;
depth: AUTO                                 { $$ = NULL; }
    | expr ;
fields: field                               { $$ = ONE($1); }
    | fields field                          { $$ = ADD($1, $2); } ;
field: type ID '[' exprs ']' ';'
        { $$ = MK(field, @$, .type = $1.type, .text = $1.text, .name = $2, .name_span = @2, .list = $4); } ;
views: view                                 { $$ = ONE($1); }
    | views ',' view                        { $$ = ADD($1, $3); } ;
view: ID '[' names ']' '=' expr             { $$ = MK(view, @$, .name = $1, .name_span = @1, .list = $3, .a = $6); } ;
shared: SHARED type ID dims ';'
        { $$ = MK(shared, @$, .type = $2.type, .text = $2.text, .name = $3, .name_span = @3, .list = $4); } ;
dims: %empty                                { $$ = NONE; }
    | '[' exprs ']'                         { $$ = $2; } ;
width: %empty                               { $$ = NONE; }
    | '(' settings ')'                      { $$ = $2; } ;

iter: ITER ID '(' optparms ')' YIELDS '(' names ')' block
        { $$ = MK(iter, @$, .name = $2, .name_span = @2, .list = $4, .list2 = $8, .a = $10); } ;
fn: FN ID '(' optparms ')' block            { $$ = MK(fn, @$, .name = $2, .name_span = @2, .list = $4, .a = $6); } ;
optparms: %empty                            { $$ = NONE; }
    | parms ;
parms: parm                                 { $$ = ONE($1); }
    | parms ',' parm                        { $$ = ADD($1, $3); } ;
parm: ID dims                               { $$ = MK(parm, @$, .name = $1, .name_span = @1, .list = $2); } ;
intrinsic: INTRINSIC TYPE ID '(' opttparms ')' optid ontargets '=' STRING ';'
        { $$ = intrinsic(f, MK(intrinsic, @$, .type = $2, .name = $3, .name_span = @3, .list = $5, .list2 = $8, .text = $10), $7, @7); } ;
opttparms: %empty                           { $$ = NONE; }
    | tparms ;
tparms: tparm                               { $$ = ONE($1); }
    | tparms ',' tparm                      { $$ = ADD($1, $3); } ;
tparm: TYPE ID                              { $$ = MK(parm, @$, .type = $1, .name = $2, .name_span = @2); } ;
optid: %empty                               { $$ = NULL; }
    | ID ;
ontargets: %empty                           { $$ = NONE; }
    | ON targets                            { $$ = $2; } ;

stmts: %empty                               { $$ = NONE; }
    | stmts stmt                            { $$ = $2 ? ADD($1, $2) : $1; } ;
block: '{' stmts '}'                        { $$ = MK(block, @$, .list = $2); }
    | '{' stmts error '}'                   { $$ = MK(block, @$, .list = $2); yyerrok; } ;
stmt: block
    | FOR ID stmt                           { $$ = MK(for, @$, .name = $2, .name_span = @2, .b = $3); }
    | FOR ID IN expr DOTS expr by stmt
        { $$ = MK(for, @$, .name = $2, .name_span = @2, .b = $8,
                  .a = MK(range, ((struct span){ @4.lo, $7 ? @7.hi : @6.hi }), .a = $4, .b = $6, .c = $7)); }
    | WHILE expr stmt                       { $$ = MK(while, @$, .a = $2, .b = $3); }
    | IF expr stmt %prec THEN               { $$ = MK(if, @$, .a = $2, .b = $3); }
    | IF expr stmt ELSE stmt                { $$ = MK(if, @$, .a = $2, .b = $3, .c = $5); }
    | PRODUCE ID block                      { $$ = MK(produce, @$, .name = $2, .name_span = @2, .a = $3); }
    | CONSUME ID stmt                       { $$ = MK(consume, @$, .name = $2, .name_span = @2, .a = $3); }
    | PAR ID IN expr DOTS expr stmt
        { $$ = MK(par, @$, .name = $2, .name_span = @2, .a = MK(range, ((struct span){ @4.lo, @6.hi }), .a = $4, .b = $6), .b = $7); }
    | SCAN ID IN expr DOTS expr lval '=' expr ';'
        { $$ = MK(scan, @$, .name = $2, .name_span = @2, .b = $7, .c = $9,
                  .a = MK(range, ((struct span){ @4.lo, @6.hi }), .a = $4, .b = $6)); }
    | EACH '(' names ')' OF ID stmt         { $$ = MK(each, @$, .list = $3, .text = $6, .name_span = @6, .b = $7); }
    | EACH '(' names ')' OF ID WHERE expr stmt
        { $$ = MK(each, @$, .list = $3, .text = $6, .name_span = @6, .a = $8, .b = $9); }
    | COMBINE ID stmt                       { $$ = MK(combine, @$, .name = $2, .name_span = @2, .a = $3); }
    | COMBINE ID OF expr AT expr stmt       { $$ = MK(combine, @$, .name = $2, .name_span = @2, .a = $7, .b = $4, .c = $6); }
    | MMA lval asg expr ';'                 { $$ = MK(mma, @$, .name_span = @1, .a = $2, .b = $4, .flag = $3); }
    | ACCUM type ID '[' exprs ']' init ';'
        { $$ = MK(accum, @$, .type = $2.type, .text = $2.text, .name = $3, .name_span = @3, .list = $5, .a = $7); }
    | ATOMIC lval PLUSEQ expr ';'           { $$ = MK(atomic, @$, .name_span = @1, .a = $2, .b = $4); }
    | ATOMIC ID lval '=' expr ';'           { $$ = MK(atomic, @$, .name_span = @2, .a = $3, .b = $5, .text = $2); }
    | lval asg cond ';'
        { $$ = MK(assign, @$, .name_span = @1, .a = $1, .flag = $2, .b = $3.value, .c = $3.where, .d = $3.other); }
    | type ID '[' exprs ']' '=' cond ';'
        { $$ = MK(tile, @$, .type = $1.type, .text = $1.text, .name = $2, .name_span = @2, .list = $4,
                  .a = $7.value, .c = $7.where, .d = $7.other); }
    | lets
    | shared
    | VAR binds ';'
        { for (int i = 0; i < $2.n; i++) {
              struct node *b = $2.at[i];
              if (b->list.n > 1) diag_error(f->diag, b->span, "'var' declares one name at a time; 'let (a, b) = ...' takes several results");
              *b = (struct node){ .kind = N_var, .span = b->span, .name = b->list.at[0]->name, .name_span = b->list.at[0]->span, .a = b->a };
          }
          $$ = MANY(@$, $2); }
    | YIELD '(' optargs ')' ';'             { $$ = MK(yield, @$, .name_span = @1, .list = $3); }
    | RETURN expr ';'                       { $$ = MK(return, @$, .name_span = @1, .list = ONE($2)); }
    | RETURN '(' expr ',' exprs ')' ';'
        { nodes all = ONE($3);
          for (int i = 0; i < $5.n; i++) all = ADD(all, $5.at[i]);
          $$ = MK(return, @$, .name_span = @1, .list = all); }
    | ASSERT expr ';'                       { $$ = MK(assert, @$, .a = $2, .text = front_text(f, @2)); }
    | PRINT prints ';'                      { $$ = MK(print, @$, .list = $2); }
    | error ';'                             { $$ = NULL; yyerrok; }
    | error '{'                             { $$ = NULL; front_skip_block(f); yyerrok; } ;
init: %empty                                { $$ = NULL; }
    | '=' expr                              { $$ = $2; } ;
asg: '='                                    { $$ = 0; }
    | PLUSEQ                                { $$ = 1; } ;
cond: expr                                  { $$.value = $1; $$.where = $$.other = NULL; }
    | expr WHERE expr                       { $$.value = $1; $$.where = $3; $$.other = NULL; }
    | expr WHERE expr ELSE expr             { $$.value = $1; $$.where = $3; $$.other = $5; } ;
lets: LET binds ';'                         { $$ = MANY(@$, $2); } ;
binds: bind                                 { $$ = ONE($1); }
    | binds ',' bind                        { $$ = ADD($1, $3); } ;
bind: ID '=' expr                           { $$ = MK(let, @$, .name_span = @1, .list = ONE(MK(name, @1, .name = $1)), .a = $3); }
    | '(' names ')' '=' expr                { $$ = MK(let, @$, .name_span = @2, .list = $2, .a = $5); }
    | ID '=' ATOMIC lval PLUSEQ expr
        { $$ = MK(let, @$, .name_span = @1, .list = ONE(MK(name, @1, .name = $1)),
                  .a = MK(atomic, ((struct span){ @3.lo, @6.hi }), .a = $4, .b = $6)); }
    | ID '=' ATOMIC ID lval '=' expr
        { $$ = MK(let, @$, .name_span = @1, .list = ONE(MK(name, @1, .name = $1)),
                  .a = MK(atomic, ((struct span){ @3.lo, @7.hi }), .name_span = @4, .a = $5, .b = $7, .text = $4)); } ;
lval: ID                                    { $$ = MK(name, @$, .name = $1); }
    | ID '[' exprs ']'                      { $$ = MK(index, @$, .name = $1, .name_span = @1, .list = $3); } ;
prints: printed                             { $$ = ONE($1); }
    | prints ',' printed                    { $$ = ADD($1, $3); } ;
printed: expr
    | STRING                                { $$ = MK(string, @$, .text = $1); } ;

exprs: expr                                 { $$ = ONE($1); }
    | exprs ',' expr                        { $$ = ADD($1, $3); } ;
optargs: %empty                             { $$ = NONE; }
    | exprs ;
binders: binder                             { $$ = ONE($1); }
    | binders ',' binder                    { $$ = ADD($1, $3); } ;
binder: expr
    | ID IN expr DOTS expr
        { $$ = MK(binder, @$, .name = $1, .name_span = @1, .a = MK(range, ((struct span){ @3.lo, @5.hi }), .a = $3, .b = $5)); } ;
expr: primary
    | '-' expr %prec UNARY                  { $$ = MK(unary, @$, .flag = '-', .a = $2); }
    | '!' expr %prec UNARY                  { $$ = MK(unary, @$, .flag = '!', .a = $2); }
    | '~' expr %prec UNARY                  { $$ = MK(unary, @$, .flag = '~', .a = $2); }
    | expr '*' expr                         { $$ = BIN(OP_MUL, @$, $1, $3); }
    | expr '/' expr                         { $$ = BIN(OP_DIV, @$, $1, $3); }
    | expr '%' expr                         { $$ = BIN(OP_MOD, @$, $1, $3); }
    | expr '+' expr                         { $$ = BIN(OP_ADD, @$, $1, $3); }
    | expr '-' expr                         { $$ = BIN(OP_SUB, @$, $1, $3); }
    | expr SHL expr                         { $$ = BIN(OP_SHL, @$, $1, $3); }
    | expr SHR expr                         { $$ = BIN(OP_SHR, @$, $1, $3); }
    | expr '<' expr                         { $$ = BIN(OP_LT, @$, $1, $3); }
    | expr '>' expr                         { $$ = BIN(OP_GT, @$, $1, $3); }
    | expr LE expr                          { $$ = BIN(OP_LE, @$, $1, $3); }
    | expr GE expr                          { $$ = BIN(OP_GE, @$, $1, $3); }
    | expr EQ expr                          { $$ = BIN(OP_EQ, @$, $1, $3); }
    | expr NE expr                          { $$ = BIN(OP_NE, @$, $1, $3); }
    | expr '&' expr                         { $$ = BIN(OP_AND, @$, $1, $3); }
    | expr '^' expr                         { $$ = BIN(OP_XOR, @$, $1, $3); }
    | expr '|' expr                         { $$ = BIN(OP_OR, @$, $1, $3); }
    | expr AND expr                         { $$ = BIN(OP_LAND, @$, $1, $3); }
    | expr OR expr                          { $$ = BIN(OP_LOR, @$, $1, $3); }
    | expr '?' expr ':' expr                { $$ = MK(cond, @$, .a = $1, .b = $3, .c = $5); } ;
primary: NUM                                { $$ = MK(int, @$, .num = $1); }
    | REAL                                  { $$ = MK(float, @$, .real = $1); }
    | ID                                    { $$ = MK(name, @$, .name = $1); }
    | ID '[' exprs ']'                      { $$ = MK(index, @$, .name = $1, .name_span = @1, .list = $3); }
    | ID '(' ')'                            { $$ = call(f, @$, $1, @1, NONE); }
    | ID '(' binders ')'                    { $$ = call(f, @$, $1, @1, plain(f, $3)); }
    | ID '(' binders ':' expr ')'           { $$ = reduction(f, @$, $1, @1, $3, $5); }
    | TYPE '(' expr ')'                     { $$ = MK(cast, @$, .type = $1, .a = $3); }
    | '(' expr ')'                          { $$ = $2; } ;
%%

/* OUT(x) is a cast where OUT is a parameter of the kernel that stands for types; everything else is a call. */
static struct node *call(struct front *f, struct span at, const char *name, struct span name_at, nodes args)
{
    for (int i = 0; f->params && i < f->params->n; i++) {
        struct node *p = f->params->at[i];
        if (p->name != name || p->list.at[0]->kind != N_typename) continue;
        if (args.n != 1) diag_error(f->diag, at, "a cast takes one value, this one has %d", args.n);
        return MK(cast, at, .text = name, .name_span = name_at, .a = args.n ? args.at[0] : MK(int, at, .num = 0));
    }
    return MK(call, at, .name = name, .name_span = name_at, .list = args);
}

/* A list that turned out to be arguments: a binder with a range has no place in it. */
static nodes plain(struct front *f, nodes binders)
{
    nodes out = NONE;
    for (int i = 0; i < binders.n; i++) {
        struct node *x = binders.at[i];
        if (x->kind == N_binder) {
            diag_error(f->diag, x->span, "a range belongs to a reduction");
            diag_note(f->diag, x->span, "a reduction is written sum(k in 0 .. n: value)");
            x = MK(int, x->span, .num = 0);
        }
        out = ADD(out, x);
    }
    return out;
}

static struct node *reduction(struct front *f, struct span at, const char *name, struct span name_at, nodes binders, struct node *body)
{
    for (int i = 0; i < binders.n; i++) {
        struct node *x = binders.at[i];
        if (x->kind == N_binder) continue;
        if (x->kind != N_name) {
            diag_error(f->diag, x->span, "a reduction runs over names; this is an expression");
            diag_note(f->diag, x->span, "write sum(k: value), sum(s, k: value) or sum(k in 0 .. n: value)");
        }
        binders.at[i] = MK(binder, x->span, .name = x->name ? x->name : intern("k"));
    }
    return MK(reduce, at, .name = name, .name_span = name_at, .list = binders, .a = body);
}

static struct node *intrinsic(struct front *f, struct node *n, const char *effects, struct span at)
{
    if (effects && effects != intern("effects"))
        diag_error(f->diag, at, "found '%s', expected 'effects', 'on' or '='", effects);
    n->flag = effects != NULL;
    return n;
}

/* Reserved words and the tokens' names */

int front_keyword(const char *word)
{
    for (int t = KERNEL; t <= PRINT; t++)
        if (!strcmp(yysymbol_name(YYTRANSLATE(t)), word)) return t;
    return 0;
}

const char *front_token_name(int token)
{
    return yysymbol_name(YYTRANSLATE(token));
}

const char *front_near_keyword(const char *word)
{
    const char *names[PRINT - KERNEL + 1];
    int n = 0;
    for (int t = KERNEL; t <= PRINT; t++) names[n++] = front_token_name(t);
    return diag_nearest(word, names, n);
}

/* Syntax errors */

static bool is_keyword(yysymbol_kind_t k)
{
    return k >= YYTRANSLATE(KERNEL) && k <= YYTRANSLATE(PRINT);
}

static bool is_operator(yysymbol_kind_t k)
{
    static const char *const ops[] = { "'?'", "||", "&&", "'|'", "'^'", "'&'", "==", "!=", "'<'", "'>'", "<=", ">=",
                                       "<<", ">>", "'+'", "'-'", "'*'", "'/'", "'%'" };
    for (int i = 0; i < COUNT(ops); i++)
        if (!strcmp(yysymbol_name(k), ops[i])) return true;
    return false;
}

struct expected {
    yysymbol_kind_t at[YYNTOKENS];
    int n;
};

static bool expects(const struct expected *e, int token)
{
    for (int i = 0; i < e->n; i++)
        if (e->at[i] == YYTRANSLATE(token)) return true;
    return false;
}

/* The groups that have a name of their own, the largest first: what holds `sign` is the group, and covers `covers`. */
enum group { GROUP_STATEMENT, GROUP_DECLARATION, GROUP_FILE, GROUP_EXPRESSION, GROUP_NONE };
static enum group group_of(const struct expected *e)
{
    return expects(e, FOR) ? GROUP_STATEMENT
         : expects(e, AXIS) ? GROUP_DECLARATION
         : expects(e, KERNEL) ? GROUP_FILE
         : expects(e, NUM) && expects(e, '(') && expects(e, '-') ? GROUP_EXPRESSION
         : GROUP_NONE;
}

static bool covered(enum group g, yysymbol_kind_t k)
{
    bool begins = k == YYTRANSLATE(ID) || k == YYTRANSLATE(TYPE);
    switch (g) {
    case GROUP_STATEMENT: return is_keyword(k) || begins || k == YYTRANSLATE('{');
    case GROUP_DECLARATION: case GROUP_FILE: return is_keyword(k);
    case GROUP_EXPRESSION:
        return begins || k == YYTRANSLATE(NUM) || k == YYTRANSLATE(REAL) || k == YYTRANSLATE('(') || k == YYTRANSLATE('-') ||
               k == YYTRANSLATE('!') || k == YYTRANSLATE('~');
    default: return false;
    }
}

static const char *quoted(struct front *f, yysymbol_kind_t k)
{
    const char *s = yysymbol_name(k);
    if (k == YYSYMBOL_YYEOF) return "the end of the file";
    bool as_is = s[0] == '\'' || !strncmp(s, "a ", 2);
    return as_is ? s : arena_printf(f->arena, "'%s'", s);
}

/* "';', ',' or an operator", in the language's words. */
static const char *expected_words(struct front *f, const struct expected *e)
{
    static const char *const group_word[] = { "a statement", "a declaration", "'kernel', 'iter', 'fn', 'intrinsic' or 'import'", "an expression" };
    enum group g = group_of(e);
    const char *words[YYNTOKENS + 2];
    int n = 0;
    bool operators = false;
    if (g != GROUP_NONE) words[n++] = group_word[g];
    for (int i = 0; i < e->n; i++) {
        if (covered(g, e->at[i])) continue;
        if (is_operator(e->at[i]) && g != GROUP_EXPRESSION) { operators = true; continue; }
        words[n++] = quoted(f, e->at[i]);
    }
    /* After a name in an expression a call or an index could follow; nobody misses them. */
    for (int i = n - 1; i >= 0 && operators; i--)
        if (!strcmp(words[i], "'('") || !strcmp(words[i], "'['")) memmove(words + i, words + i + 1, sizeof *words * (size_t)(--n - i));
    if (operators && n == 0) words[n++] = "an operator";
    struct buf b = { 0 };
    for (int i = 0; i < n && i < 8; i++) buf_printf(&b, "%s%s", i == 0 ? "" : i == n - 1 ? " or " : ", ", words[i]);
    const char *out = arena_strndup(f->arena, b.at ? b.at : "nothing", b.at ? b.n : 7);
    buf_free(&b);
    return out;
}

static bool starts_line(struct front *f, struct span at)
{
    for (uint32_t p = f->last.hi; f->last.hi && p < at.lo; p++)
        if (f->text[p - f->base] == '\n') return true;
    return false;
}

/* A word that is no keyword stands before the error: perhaps it was meant to be one. */
static void note_near_keyword(struct front *f, struct span at)
{
    const char *word = at.hi > at.lo ? front_text(f, at) : "";
    if (!*word || front_keyword(word) || type_find(word)) return;
    const char *near = strlen(word) > 2 ? front_near_keyword(word) : NULL;
    if (near) diag_note(f->diag, at, "did you mean '%s'?", near);
}

/* Where else a declaration or statement belongs. */
static void note_place(struct front *f, struct span at, yysymbol_kind_t found, enum group g)
{
    static const int declared[] = { AXIS, GRID, PIPE, VIEW, ROLE, TUNE, ON, SPEC, GIVEN };
    const char *word = yysymbol_name(found);
    for (int i = 0; i < COUNT(declared) && g == GROUP_STATEMENT; i++)
        if (found == YYTRANSLATE(declared[i])) diag_note(f->diag, at, "'%s' stands in the kernel, outside its roles", word);
    static const int stated[] = { FOR, WHILE, IF, PRODUCE, CONSUME, PAR, SCAN, EACH, COMBINE, MMA, ACCUM, ATOMIC, VAR, ASSERT, PRINT };
    for (int i = 0; i < COUNT(stated) && g == GROUP_DECLARATION; i++)
        if (found == YYTRANSLATE(stated[i])) diag_note(f->diag, at, "'%s' is a statement; it stands in a role", word);
}

static void note_slip(struct front *f, struct span at, yysymbol_kind_t found, const struct expected *e)
{
    enum group g = group_of(e);
    note_place(f, at, found, g);
    if (found == YYTRANSLATE('=') && expects(e, EQ)) diag_note(f->diag, at, "to compare, write '=='");
    else if (found == YYTRANSLATE(EQ) && expects(e, '=')) diag_note(f->diag, at, "to assign, write '='");
    else if (found == YYTRANSLATE('+') && g == GROUP_EXPRESSION) diag_note(f->diag, at, "to count up, write x += 1");
    else if (found == YYTRANSLATE(STRING)) diag_note(f->diag, at, "a string stands only in print, import and intrinsic");
    else if (found == YYTRANSLATE(SHAPE)) diag_note(f->diag, at, "a shape such as 4x2 stands only in the sets of tune, on and role");
    else if (is_keyword(found) && expects(e, ID) && (g == GROUP_NONE || g == GROUP_EXPRESSION))
        diag_note(f->diag, at, "'%s' is a reserved word, it cannot be a name", yysymbol_name(found));
    else if (found == YYTRANSLATE(ID)) note_near_keyword(f, at);
    note_near_keyword(f, f->last);
}

static int yyreport_syntax_error(const yypcontext_t *cx, struct front *f)
{
    struct expected e;
    e.n = yypcontext_expected_tokens(cx, e.at, YYNTOKENS);
    yysymbol_kind_t found = yypcontext_token(cx);
    struct span at = *yypcontext_location(cx);
    f->file->flag = 1;
    if (f->torn.hi && (f->torn.lo == f->last.lo || found == YYSYMBOL_YYEOF)) return 0;
    if (found == YYSYMBOL_YYEOF && f->last.hi) at = f->last;
    bool ends = found == YYTRANSLATE('}') || found == YYSYMBOL_YYEOF;
    if (expects(&e, ';') && group_of(&e) == GROUP_NONE && f->last.hi && (ends || starts_line(f, at))) {
        diag_error(f->diag, f->last, "missing ';' after '%s'", front_text(f, f->last));
        return 0;
    }
    const char *what = found == YYSYMBOL_YYEOF ? "the end of the file" : arena_printf(f->arena, "'%s'", front_text(f, at));
    diag_error(f->diag, at, "found %s, expected %s", what, expected_words(f, &e));
    if (found == YYSYMBOL_YYEOF && expects(&e, '}') && f->opened.hi) diag_note(f->diag, f->opened, "the last '{' opened here");
    note_slip(f, at, found, &e);
    return 0;
}

/* Called for one thing only: the parser's stack is full. */
static void dsl_yyerror(struct span *at, struct front *f, const char *what)
{
    (void)what;
    f->file->flag = 1;
    diag_error(f->diag, *at, "nested too deeply");
}

/* Trees are walked by recursion everywhere; a long a + a + a ... is as deep as it is long. */
enum { DEEPEST = 3000 };

struct at_depth {
    struct node *n;
    int depth;
};

typedef VEC(struct at_depth) depth_stack;

static void push(struct arena *a, depth_stack *stack, struct node *n, int depth)
{
    struct at_depth x = { n, depth };
    if (n) vec_push(a, stack, x);
}

static void limit_depth(struct front *f)
{
    struct arena scratch = { 0 };
    depth_stack todo = { 0 };
    push(&scratch, &todo, f->file, 0);
    while (todo.n) {
        struct at_depth x = todo.at[--todo.n];
        if (x.depth > DEEPEST) {
            diag_error(f->diag, x.n->span, "nested too deeply");
            break;
        }
        struct node *const below[] = { x.n->a, x.n->b, x.n->c, x.n->d };
        for (int i = 0; i < COUNT(below); i++) push(&scratch, &todo, below[i], x.depth + 1);
        for (int i = 0; i < x.n->list.n; i++) push(&scratch, &todo, x.n->list.at[i], x.depth + 1);
        for (int i = 0; i < x.n->list2.n; i++) push(&scratch, &todo, x.n->list2.at[i], x.depth + 1);
    }
    arena_free(&scratch);
}

void front_parse(struct front *f)
{
    f->file = ast_make(f->arena, (struct node){ .kind = N_file, .span = { f->base, f->base + f->size } });
    int before = f->diag->errors;
    front_scan_begin(f);
    yyparse(f);
    front_scan_end(f);
    limit_depth(f);
    f->file->flag = f->diag->errors != before;
}
