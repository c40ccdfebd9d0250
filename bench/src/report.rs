//! What is said at the end: rows of medians, floors beside them, and each ratio with the target it has to meet.

use crate::load::Window;
use crate::trouble::Trouble;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt::Write;
use std::fs;
use std::time::Duration;

/// One scenario's result.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The scenario's name.
    pub(crate) scenario: &'static str,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// How many interleaved rounds the medians are of.
    pub(crate) rounds: usize,
    /// What was measured; floors among them.
    pub(crate) rows: Vec<Row>,
    /// What is no operation: memory, processor time at rest.
    pub(crate) figures: Vec<Figure>,
    /// Ratios and limits.
    pub(crate) verdicts: Vec<Verdict>,
    /// How to read it.
    pub(crate) notes: Vec<String>,
}

/// The machine, as far as it matters to figures.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    optimised: bool,
}

impl Machine {
    /// This machine, and how this program was built.
    pub(crate) fn here() -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo")
            .ok()
            .and_then(|text| {
                text.lines()
                    .find(|line| line.starts_with("model name"))
                    .and_then(|line| line.split_once(':'))
                    .map(|(_, name)| name.trim().to_owned())
            })
            .unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// Medians over the rounds. Times in microseconds. What does not apply is absent.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    operations: u64,
    per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_cpu_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percentiles: Option<Percentiles>,
}

/// Latency in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Percentiles {
    /// Half are faster.
    pub(crate) p50: f64,
    /// Nine of ten.
    pub(crate) p90: f64,
    /// Ninety-nine of a hundred.
    pub(crate) p99: f64,
    /// 999 of a thousand.
    pub(crate) p999: f64,
}

impl Row {
    /// The medians of some windows with a server on the other side.
    pub(crate) fn of(name: impl Into<String>, windows: &[Window]) -> Self {
        Self {
            name: name.into(),
            operations: windows.iter().map(|window| window.operations).sum(),
            per_second: median(windows.iter().map(rate)),
            server_cpu_us: Some(server_cost(windows)),
            client_cpu_us: Some(median(windows.iter().map(|window| each_us(window.client, window.operations)))),
            percentiles: Some(percentiles(windows)),
        }
    }

    /// Operations of callers beside whom others used the server too, so that its processor time says nothing of them.
    pub(crate) fn beside_others(name: impl Into<String>, elapsed: Duration, latencies: &Histogram<u64>) -> Self {
        let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            name: name.into(),
            operations: latencies.len(),
            per_second: latencies.len() as f64 / elapsed.as_secs_f64(),
            server_cpu_us: None,
            client_cpu_us: None,
            percentiles: Some(Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999) }),
        }
    }

    /// A floor that ran alone, in one thread: its cost in microseconds a round.
    pub(crate) fn floor(name: impl Into<String>, operations: u64, costs_us: &[f64]) -> Self {
        let cost = median(costs_us.iter().copied());
        Self {
            name: name.into(),
            operations,
            per_second: 1e6 / cost,
            server_cpu_us: Some(cost),
            client_cpu_us: None,
            percentiles: None,
        }
    }
}

/// Processor time of the server for one operation, in microseconds: the median over the windows.
pub(crate) fn server_cost(windows: &[Window]) -> f64 {
    median(windows.iter().map(|window| each_us(window.server, window.operations)))
}

/// Operations a second: the median over the windows.
pub(crate) fn median_rate(windows: &[Window]) -> f64 {
    median(windows.iter().map(rate))
}

/// The median of each percentile over the windows.
pub(crate) fn percentiles(windows: &[Window]) -> Percentiles {
    let at =
        |quantile: f64| median(windows.iter().map(|window| window.latencies.value_at_quantile(quantile) as f64 / 1e3));
    Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999) }
}

/// The middle of some values; of an even number, the lower of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}

fn rate(window: &Window) -> f64 {
    window.operations as f64 / window.elapsed.as_secs_f64()
}

fn each_us(time: Duration, operations: u64) -> f64 {
    time.as_secs_f64() * 1e6 / operations as f64
}

/// A figure by itself.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
}

impl Figure {
    /// What, how much, of what.
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit }
    }
}

/// A figure, and the limit it has to keep.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    what: String,
    measured: f64,
    limit: f64,
    kind: Kind,
    reached: bool,
}

/// Which side of the limit is good.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Larger is better.
    AtLeast,
    /// Smaller is better.
    AtMost,
}

impl Verdict {
    /// The figure has to be this or less.
    pub(crate) fn at_most(what: impl Into<String>, measured: f64, limit: f64) -> Self {
        Self { what: what.into(), measured, limit, kind: Kind::AtMost, reached: measured <= limit }
    }

    /// The figure has to be this or more.
    pub(crate) fn at_least(what: impl Into<String>, measured: f64, limit: f64) -> Self {
        Self { what: what.into(), measured, limit, kind: Kind::AtLeast, reached: measured >= limit }
    }
}

impl Report {
    /// An empty report.
    pub(crate) fn new(scenario: &'static str, rounds: usize) -> Self {
        Self {
            scenario,
            machine: Machine::here(),
            rounds,
            rows: Vec::new(),
            figures: Vec::new(),
            verdicts: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> Result<String, Trouble> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{}: medians of {} interleaved rounds; {} cores, {}, kernel {}{}",
            self.scenario,
            self.rounds,
            self.machine.cores,
            self.machine.processor,
            self.machine.kernel,
            if self.machine.optimised { "" } else { "; UNOPTIMISED BUILD: figures mean nothing" },
        );
        if !self.rows.is_empty() {
            let _ = writeln!(
                text,
                "{:<44} {:>9} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                "", "ops", "ops/s", "srv us", "cli us", "p50 us", "p90 us", "p99 us", "p99.9 us"
            );
        }
        for row in &self.rows {
            let latency = row.percentiles.as_ref();
            let _ = writeln!(
                text,
                "{:<44} {:>9} {:>10.0} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                row.name,
                row.operations,
                row.per_second,
                cell(row.server_cpu_us),
                cell(row.client_cpu_us),
                cell(latency.map(|at| at.p50)),
                cell(latency.map(|at| at.p90)),
                cell(latency.map(|at| at.p99)),
                cell(latency.map(|at| at.p999)),
            );
        }
        for figure in &self.figures {
            let _ = writeln!(text, "figure      {}: {:.2} {}", figure.what, figure.value, figure.unit);
        }
        for verdict in &self.verdicts {
            let word = match verdict.kind {
                Kind::AtLeast => "at least",
                Kind::AtMost => "at most",
            };
            let _ = writeln!(
                text,
                "{:<11} {}: {:.2}, {word} {:.2}",
                if verdict.reached { "PASS" } else { "NOT REACHED" },
                verdict.what,
                verdict.measured,
                verdict.limit
            );
        }
        for note in &self.notes {
            let _ = writeln!(text, "note        {note}");
        }
        text
    }
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_values_is_the_lower_middle() {
        assert!((median([4.0, 1.0, 3.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median([5.0, 1.0, 3.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_limit_itself_is_within_the_limit_and_what_is_no_number_is_not() {
        assert!(Verdict::at_most("ratio", 2.5, 2.5).reached);
        assert!(Verdict::at_least("ratio", 0.75, 0.75).reached);
        assert!(!Verdict::at_most("ratio", f64::NAN, 2.5).reached);
        assert!(!Verdict::at_least("ratio", f64::NAN, 0.75).reached);
    }

    #[test]
    fn a_report_says_in_words_and_in_json_what_was_not_reached() {
        let mut report = Report::new("jwt", 5);
        report.rows.push(Row::floor("signature", 10, &[20.0, 22.0, 24.0]));
        report.verdicts.push(Verdict::at_most("server CPU to floor", 1.6, 1.5));
        assert!(report.table().contains("NOT REACHED server CPU to floor: 1.60, at most 1.50"));
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["verdicts"][0]["reached"], false);
        assert_eq!(json["rows"][0]["server_cpu_us"], 22.0);
    }
}
