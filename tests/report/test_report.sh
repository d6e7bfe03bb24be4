# docs/machine-code.md: its lines are counted anew, nothing that a call gets spills, no kernel is longer than sixty lines; the reader of machine code.
command -v python3 >/dev/null || { echo "no python3 here"; exit 77; }
bad=0
python3 tests/report/test_sass.py || bad=1
python3 tests/report/report.py --lines > "$T/lines"
sed -n '/^## Lines/,$p' docs/machine-code.md > "$T/there"
sed 1d "$T/lines" | diff - "$T/there" || { echo "docs/machine-code.md is old: make report"; bad=1; }
awk -F'|' '/^\| [a-z0-9_]+: / && $3 > 60 { print "more than sixty lines:" $2; bad = 1 } END { exit bad }' "$T/lines" || bad=1
awk -F'|' '/^## / { on = $0 ~ /^## sm_/ } on && NF >= 9 && $4 ~ /[0-9]/ && ($7 != 0 || $8 != 0) { print "spills:" $2; bad = 1 } END { exit bad }' docs/machine-code.md || bad=1
exit $bad
