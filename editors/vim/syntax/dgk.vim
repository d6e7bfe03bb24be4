" Vim syntax of .dgk files. The words are those of dsl/parse.y, dsl/types.def and dsl/builtins.def; a test compares them.
if exists("b:current_syntax")
  finish
endif
syntax keyword dgkKeyword accum assert at atomic auto axis by check cluster combine consume each else exact fn for given grid if import in inner inout intrinsic iter kernel let mma of on order out par persistent pipe print produce require return role run scan shared spec split step tol tune var view when where while yield yields
syntax keyword dgkType bool i8 u8 i16 u16 i32 u32 i64 u64 f32 tf32 f16 bf16 e4m3 e5m2 e2m1 ue8m0 ue4m3
syntax keyword dgkFunction min max abs cdiv fma exp exp2 log2 sqrt rsqrt rcp tanh sin cos select bits popc clz lo hi ord tiles span unit units thread rand distinct sorted sum any all
syntax keyword dgkConstant inf
syntax match dgkNumber "\<0[xX]\x\+\>\|\<\d\+\(\.\d\+\)\?\([eE][+-]\?\d\+\)\?\>\|\<\d\+x\d\+\>"
syntax region dgkString start=+"+ skip=+\\.+ end=+"+ oneline
syntax match dgkComment "//.*$" contains=dgkTodo
syntax region dgkComment start="/\*" end="\*/" contains=dgkTodo
syntax keyword dgkTodo TODO contained
highlight default link dgkKeyword Keyword
highlight default link dgkType Type
highlight default link dgkFunction Function
highlight default link dgkConstant Constant
highlight default link dgkNumber Number
highlight default link dgkString String
highlight default link dgkComment Comment
highlight default link dgkTodo Todo
let b:current_syntax = "dgk"
