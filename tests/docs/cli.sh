#!/bin/sh
# docs/cli.md from what dgc says of itself.  cli.sh DGC > docs/cli.md
dgc=$1
cat <<X
# The command line

Written by \`make docs\` from \`runtime/cli.def\` and \`runtime/status.def\`; a test holds it to them.

A verb comes first; options and files follow in any order, as \`--name=VALUE\` or \`--name VALUE\`. Messages go to stderr, results to stdout. A file
is written beside its place and then renamed: after an error there is the old one or none.

\`\`\`
X
"$dgc" help
echo '```'
for verb in $("$dgc" help | sed -n 's/^  \([a-z]*\)  *[a-z].*/\1/p'); do
    [ "$verb" != help ] || continue
    printf '\n## dgc %s\n\n```\n' "$verb"
    "$dgc" "$verb" --help | sed 's/[ \t]*$//'
    echo '```'
done
cat <<'X'

## What run takes

`ARGUMENT=VALUE` gives a tensor or a number: a number (`EPS=1e-5`); a file, `a.npy` or `w.safetensors:NAME`; or made on the spot,
`randn(128, 512, seed=1)`, `zeros(4, 4):i32`, `ones(…)`. An output that is not named is made and shown; one that is named is written there.

## Exit statuses

| status | name | meaning |
|---|---|---|
X
sed -n 's/^STATUS(\([A-Z_]*\), *\([0-9]*\), "\(.*\)")$/| \2 | \1 | \3 |/p' runtime/status.def
