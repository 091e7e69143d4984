//! Medians, percentiles, open-loop schedules.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep_until};

/// The middle value; the mean of the two middle ones.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Where 95 of 100 means of as many values lie, by Student's distribution;
/// `None` if there are too few of them.
pub(crate) fn interval(values: &[f64]) -> Option<(f64, f64)> {
    // Two-sided 95 % for 3 to 10 values; beyond that 2.2 is a little wide.
    const STUDENT: [f64; 8] = [4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
    let enough = values.len().checked_sub(3)?;
    let factor = STUDENT.get(enough).copied().unwrap_or(2.2);
    let count = number(values.len() as u64);
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let half = factor * (squares / (count - 1.0) / count).sqrt();
    Some((mean - half, mean + half))
}

/// Latencies, kept in microseconds.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Self {
        let longest = 10 * 60 * 1_000_000;
        let digits = 3;
        Self(Histogram::new_with_bounds(1, longest, digits).expect("the bounds are in order"))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros.max(1));
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// In milliseconds.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        number(self.0.value_at_quantile(quantile)) / 1000.0
    }
}

impl Extend<Duration> for Latencies {
    fn extend<T: IntoIterator<Item = Duration>>(&mut self, latencies: T) {
        for latency in latencies {
            self.record(latency);
        }
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

/// `count` per second of `elapsed`.
pub(crate) fn rate(count: u64, elapsed: Duration) -> f64 {
    number(count) / elapsed.as_secs_f64()
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Points in time at a fixed rate, whatever happens at them: an open loop.
pub(crate) struct Schedule {
    next: Instant,
    step: Duration,
    end: Instant,
}

impl Schedule {
    pub(crate) fn new(per_second: u32, period: Duration) -> Self {
        let next = Instant::now();
        Self {
            next,
            step: Duration::from_secs(1) / per_second,
            end: next + period,
        }
    }

    /// Waits for the next point; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Option<Instant> {
        let point = self.next;
        if point >= self.end {
            return None;
        }
        self.next += self.step;
        sleep_until(point).await;
        Some(point)
    }
}
