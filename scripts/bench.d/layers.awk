# Reads lines `kind|row|system|microseconds` from scripts/bench.d/layers; prints the median of each row and system, and
# the verdicts on the goals. With -v check=yes the exit status is 1 where a goal is missed.
BEGIN { FS = "|" }

{
    if (!($2 in kind)) { kind[$2] = $1; row[++rows] = $2 }
    # Kept sorted: a round has few numbers.
    key = $2 SUBSEP $3
    place = ++count[key]
    for (; place > 1 && times[key, place - 1] > $4; place--) times[key, place] = times[key, place - 1]
    times[key, place] = $4
}

function median(name, side,    key, number) {
    key = name SUBSEP side
    number = count[key]
    return (times[key, int((number + 1) / 2)] + times[key, int(number / 2) + 1]) / 2000
}

function verdict(ratio, goal) {
    if (ratio > goal) missed++
    return ratio <= goal ? "met" : "MISSED"
}

END {
    if (!rows) exit 1
    # Two runs of one and the same program differ by so much.
    noise = 1.05
    printf "%57s %23s\n", "milliseconds", "ratio of ours to"
    printf "%-24s %7s %8s %8s %7s %8s %8s %8s  %s\n", "", "plain", "overlay", "fuse-ovl", "ours", "plain", "overlay", "fuse-ovl",
        "no slower than fuse-overlayfs?"
    for (number = 1; number <= rows; number++) {
        name = row[number]
        ours = median(name, "ours")
        ratio = ours / median(name, "fuse-overlayfs")
        if (ratio <= 0.5) twice++
        data_ratio = ours / median(name, "overlayfs")
        word = verdict(ratio, noise)
        if (kind[name] == "data" && passthrough == "yes") word = word ", within 10 % of overlayfs: " verdict(data_ratio, 1.1)
        printf "%-24s %7.0f %8.0f %8.0f %7.0f %8.2f %8.2f %8.2f  %s\n", name, median(name, "plain"),
            median(name, "overlayfs"), median(name, "fuse-overlayfs"), ours, ours / median(name, "plain"), data_ratio, ratio, word
    }
    printf "twice as fast as fuse-overlayfs in %d of %d rows: %s\n", twice, rows, verdict(rows / (2 * twice + 0.001), 1)
    exit check == "yes" && missed > 0
}
