//! The book's plots: samples as the lesson records them, what must be true of them, and their picture.

use std::collections::BTreeMap;
use std::fmt::Write;

/// One look at a cgroup.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub seconds: f64,
    pub usage: f64,
    pub limit: f64,
}

/// The samples of each experiment, from the lines `experiment,seconds,usage,limit`.
pub fn parse(text: &str) -> BTreeMap<String, Vec<Sample>> {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("experiment,seconds,usage,limit"));
    let mut experiments: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let [experiment, numbers @ ..] = fields.as_slice() else { panic!("{line:?}") };
        let numbers: Vec<f64> = numbers.iter().map(|number| number.parse().expect(line)).collect();
        let [seconds, usage, limit] = numbers[..] else { panic!("{line:?}") };
        experiments.entry(experiment.to_string()).or_default().push(Sample { seconds, usage, limit });
    }
    experiments
}

/// Panics where one of the four experiments did not show what the book says of it.
pub fn check_claims(experiments: &BTreeMap<String, Vec<Sample>>) {
    let names: Vec<&str> = experiments.keys().map(String::as_str).collect();
    assert_eq!(names, ["cpu", "disk", "fork_bomb", "memory"]);
    let most = |samples: &[Sample]| samples.iter().map(|sample| sample.usage).fold(0.0, f64::max);

    let memory = &experiments["memory"];
    let (limit, most_memory) = (memory[0].limit, most(memory));
    assert_eq!(limit, 64.0 * 1024.0 * 1024.0);
    assert!(most_memory <= limit && most_memory > 0.9 * limit, "memory grew to {most_memory}");
    let rest = memory.last().unwrap().usage;
    assert!(rest < 0.1 * limit, "{rest} bytes after the OOM kill");

    for (name, limit) in [("cpu", 0.5), ("disk", 1024.0 * 1024.0)] {
        let samples = &experiments[name];
        assert!(samples.iter().all(|sample| sample.limit == limit));
        let mean = mean(samples);
        assert!((mean / limit - 1.0).abs() < 0.1, "{name}: {mean} where the limit is {limit}");
    }

    let forks = &experiments["fork_bomb"];
    // pids.current counts a fork for an instant before it is refused.
    assert!(forks[0].limit == 20.0 && (20.0..25.0).contains(&most(forks)), "{} processes", most(forks));
    let at_limit: Vec<f64> = forks.iter().filter(|s| s.usage >= 20.0).map(|s| s.seconds).collect();
    assert!(at_limit[at_limit.len() - 1] - at_limit[0] > 0.5, "it stays at the limit: {at_limit:?}");
    assert_eq!(forks.last().unwrap().usage, 0.0, "processes after the kill");
}

/// The mean over time; each sample stands for the time since the one before, the first for that since the start.
fn mean(samples: &[Sample]) -> f64 {
    let (mut before, mut sum) = (0.0, 0.0);
    for sample in samples {
        sum += sample.usage * (sample.seconds - before);
        before = sample.seconds;
    }
    sum / before
}

/// What a plot is drawn in.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    /// The time at the right edge, in seconds.
    seconds: f64,
    /// The value at the top edge.
    value: f64,
}

impl Frame {
    fn x(&self, seconds: f64) -> f64 {
        self.left + (self.right - self.left) * seconds / self.seconds
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * value / self.value
    }
}

/// The samples of one experiment as an SVG with the classes of `book/theme/hull.css`.
pub fn render(experiment: &str, samples: &[Sample]) -> String {
    let limit = samples[0].limit;
    let (label, limit_label) = match experiment {
        "memory" => ("Memory of a process that takes ever more", format!("limit {} MiB", limit / 1048576.0)),
        "cpu" => ("Processors that a busy loop gets", format!("limit {limit} CPUs")),
        "fork_bomb" => ("Processes of a fork bomb", format!("limit {limit} processes")),
        "disk" => ("Bytes written in a second", format!("limit {} MiB/s", limit / 1048576.0)),
        other => panic!("the experiment {other:?} has no plot"),
    };
    let most = samples.iter().map(|sample| sample.usage).fold(limit, f64::max);
    let seconds = samples.last().unwrap().seconds.max(0.1) * 1.03;
    let frame = Frame { left: 20.0, right: 500.0, top: 20.0, bottom: 200.0, seconds, value: most * 1.15 };

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 680 230\" width=\"680\" role=\"img\" aria-label=\"{label}\">\n"
    );
    let Frame { left, right, top, bottom, .. } = frame;
    let mut add = |line: String| writeln!(svg, "  {line}").unwrap();
    add(format!("<path class=\"line\" d=\"M {left} {top} V {bottom} H {right}\"/>"));
    let step = if seconds < 3.0 { 0.5 } else { 1.0 };
    for tick in (0..).map(|count| f64::from(count) * step).take_while(|tick| *tick <= seconds) {
        let x = frame.x(tick);
        add(format!("<path class=\"line\" d=\"M {x:.1} {bottom} v 5\"/>"));
        add(format!(
            "<text class=\"faint\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{}\">{tick} s</text>",
            bottom + 22.0
        ));
    }
    let y = frame.y(limit);
    add(format!("<path class=\"cut\" d=\"M {left} {y:.1} H {right}\"/>"));
    add(format!("<text class=\"mono\" x=\"{:.1}\" y=\"{:.1}\">{limit_label}</text>", right + 10.0, y + 5.0));
    let points: Vec<String> = samples
        .iter()
        .map(|sample| format!("{:.1} {:.1}", frame.x(sample.seconds), frame.y(sample.usage)))
        .collect();
    add(format!("<path class=\"line\" stroke-width=\"2\" d=\"M {}\"/>", points.join(" L ")));
    svg.push_str("</svg>\n");
    svg
}
