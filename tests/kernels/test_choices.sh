# What the model chooses, for the shapes of sparse-attention models, assembles without a stack: no spills, no refused setmaxnreg.
"$DGC" doctor --has=ptxas >/dev/null 2>&1
[ $? = 3 ] && { echo "no ptxas here"; exit 77; }
pass=0; fail=0
# chosen FILE KERNEL OPTIONS SHAPE …
chosen() {
    file=$1; kernel=$2; options=$3; shift 3
    for shape; do set -- "$@" --shape "$shape"; shift; done
    "$DGC" explain kernels_dsl/$file.dgk --kernel=$kernel $options --target=sm_90a --device=emu:sm_90a,sms=132 "$@" >"$T/out" 2>"$T/err"
    good=$(grep -c '^  assembled .* 0 bytes of stack, 0 bytes of spills' "$T/out"); wanted=$(($# / 2))
    pass=$((pass + good)); fail=$((fail + wanted - good))
    [ "$good" = $wanted ] || { echo "$kernel $options: $good of $wanted"; grep -E '^call|chosen|assembled' "$T/out"; head -4 "$T/err"; }
}
gemms() {
    chosen "$@" M=1,N=2112,K=7168 M=128,N=576,K=7168 M=128,N=24576,K=1536 M=4096,N=2112,K=7168 M=4096,N=576,K=7168 \
        M=4096,N=24576,K=1536 M=4096,N=32768,K=512 M=4096,N=4096,K=7168
}
gemms bf16_gemm bf16_gemm ""
gemms bf16_gemm bf16_gemm "-D ACC=1"
gemms bf16_gemm bf16_gemm "-D OUT=f32 -D ACC=1 --inner A=0 --inner B=0"
gemms fp8_gemm fp8_gemm "-D S=f32 -D G=128 -D GN=128 --inner SB=1"
gemms fp8_gemm fp8_gemm "-D S=f32 -D G=128 -D GN=128 --inner SA=0 --inner SB=1"
chosen fp8_gemm fp8_gemm "-D S=f32 -D G=128 -D GN=1 -D OUT=f32 -D ACC=1" M=2112,N=7168,K=4096 M=576,N=7168,K=4096 M=7168,N=16384,K=4096
for way in "OUT=f32 -D WT=f32" "OUT=f32 -D COMP=1" "OUT=bf16 -D WT=bf16 -D COMP=1" "OUT=bf16 -D CLEAN=1" "OUT=f32 -D WT=bf16 -D CLEAN=1"; do
    chosen mqa_logits mqa_logits "-D $way" S=2048,H=64,C=128,T=8192,TL=8192 S=2048,H=64,C=32,T=8192,TL=8192 S=2048,H=32,C=128,T=8192,TL=8192 \
        S=2048,H=32,C=64,T=8192,TL=8192 S=2048,H=16,C=64,T=8192,TL=8192 S=2048,H=8,C=128,T=8192,TL=8192
done
for nn in 1 2 3 4 5 6; do
    chosen paged_mqa_logits paged_mqa_logits "-D NN=$nn" B=256,H=64,C=128,P=40000,PS=64,MB=200,T=12800,U=132 B=256,H=32,C=128,P=40000,PS=64,MB=200,T=12800,U=132
done
chosen paged_mqa_logits paged_mqa_logits_varlen "" B=1024,H=64,C=128,P=40000,PS=64,MB=200,T=12800,U=132 B=1024,H=32,C=128,P=40000,PS=64,MB=200,T=12800,U=132 \
    B=1024,H=8,C=64,P=40000,PS=32,MB=200,T=6400,U=132
for way in contiguous,32768,1,32768 masked,4,4,8192 psum,4,1,32768; do
    IFS=, read -r layout x z rz <<S
$way
S
    for rows in "" "--inner SA=1"; do
        chosen m_grouped m_grouped_fp8 "-D LAYOUT=$layout $rows" R=32768,K=7168,Z=$z,RZ=$rz,G=4,N=6144,X=$x,PITCH=8192 \
            R=32768,K=2048,Z=$z,RZ=$rz,G=4,N=4096,X=$x,PITCH=8192
    done
    chosen m_grouped_bf16 m_grouped_bf16 "-D LAYOUT=$layout" R=32768,K=7168,G=4,N=6144,X=$x,PITCH=8192 R=32768,K=2048,G=4,N=4096,X=$x,PITCH=8192
    chosen m_grouped_bf16 m_grouped_bf16 "-D LAYOUT=$layout --inner B=1" R=32768,K=3072,G=4,N=7168,X=$x,PITCH=8192
done
chosen k_grouped k_grouped_fp8_nt "" G=4,M=4096,N=7168,LA=134217728,LB=234881024,KB=256 G=8,M=7168,N=2048,LA=234881024,LB=67108864,KB=256
chosen k_grouped k_grouped_bf16_tn "" G=4,M=4096,N=7168,KT=32768 G=8,M=7168,N=2048,KT=32768
chosen hc_prenorm tf32_hc_prenorm_gemm "-D SPLIT=0" M=13,N=24,K=28672,P=1 M=4096,N=24,K=7168,P=1
chosen hc_prenorm tf32_hc_prenorm_gemm "-D SPLIT=1" M=137,N=24,K=7680,P=16 M=8192,N=24,K=28672,P=16
chosen einsum bhr_hdr_bhd "" B=4,H=128,R=512,D=128 B=128,H=8,R=4096,D=1024 B=8192,H=128,R=512,D=128
chosen einsum bhr_hdr_bhd "--inner W=1" B=32,H=128,R=128,D=512 B=8192,H=8,R=1024,D=4096
chosen einsum bmk_bnk_mn "" S=129,M=128,N=384,K=128 S=4096,M=256,N=256,K=256 S=8192,M=384,N=128,K=384
for rows in "" "--inner SA=1"; do
    chosen fp8_einsum fp8_bhr_hdr_bhd "$rows" B=4,H=8,R=4096,D=1024 B=128,H=8,R=4096,D=1024 B=8192,H=8,R=4096,D=1024
done
for rows in "" "--inner SA=0"; do
    chosen skip_head_mid fp8_gemm_skip_head_mid "$rows" M=128,N=32768,K=512,ND=40960 M=4096,N=8192,K=512,ND=10240
done
echo "$pass passed, $fail failed"
[ $fail -eq 0 ]
