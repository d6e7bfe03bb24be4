autocmd BufRead,BufNewFile *.dgk setfiletype dgk
