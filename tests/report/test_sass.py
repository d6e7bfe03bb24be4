"""Holds sass.py to a listing made by hand: its loops, which of them is the main one, and what is in it."""

import sass

LISTING = """
.section .text.k,"ax",@progbits
        /*0000*/                   S2R R0, SR_TID.X ;
.L_x_1:
        /*0010*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R1], R2 ;
        /*0020*/              @!P0 BRA `(.L_x_5) ;
.L_x_2:
        /*0030*/                   LDSM.16.M88.4 R4, [R3] ;
.L_x_3:
        /*0040*/                   HMMA.16816.F32.BF16 R8, R4, R6, R8 ;
        /*0050*/                   NOP ;
        /*0060*/                   QMMA.SF.16832.F32 R8, R4, R6, R8 ;
        /*0070*/                   IADD3 R3, PT, PT, R3, 0x10, RZ ;
        /*0080*/                   BRA.U !UP0, `(.L_x_3) ;
        /*0090*/                   FADD R1, R1, R2 ;
        /*00a0*/               @P1 BRA `(.L_x_1) ;
        /*00b0*/                   EXIT ;
.L_x_5:
        /*00c0*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R1], R2 ;
        /*00d0*/              @!P0 BRA `(.L_x_5) ;
        /*00e0*/                   BRA `(.L_x_2) ;
.section .text.other,"ax",@progbits
        /*0000*/                   HMMA.16816.F32.BF16 R8, R4, R6, R8 ;
"""

code, labels = sass.parse(LISTING)
assert len(code) == 15 and labels[".L_x_3"] == 0x40, (len(code), labels)
loop = sass.main_loop(code, labels)
assert [i.address for i in loop] == [0x40, 0x50, 0x60, 0x70, 0x80], loop  # not from the far end of the waiting loop back to .L_x_2
n = sass.counts(loop)
assert (n["tensor"], n["integer"], n["jump"], n["all"]) == (2, 1, 1, 4), n
assert sass.main_loop(*sass.parse(LISTING.replace("HMMA", "FFMA").replace("QMMA", "FFMA"))) == []
