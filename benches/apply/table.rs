//! What was measured, as lines to read.

use std::time::Duration;

/// The times of each way at one round-trip time, in the order in which they were measured.
#[derive(Default)]
pub struct Times {
    /// The files pushed by parallel OpenSSH.
    pub openssh: Vec<Duration>,
    /// `terraform apply` with this provider.
    pub provider: Vec<Duration>,
    /// `terraform apply` with `file` and `remote-exec` provisioners.
    pub provisioners: Vec<Duration>,
}

/// The title and the columns' names.
pub fn head(members: usize, etcd: &str) -> String {
    let profile = if cfg!(debug_assertions) {
        ", UNOPTIMIZED BUILD"
    } else {
        ""
    };
    format!(
        "{members} members, etcd {etcd}, binaries on the servers{profile}; seconds\n\
         {:>8}  {:<14} {:>8} {:>8} {:>8} {:>10}\n",
        "RTT", "way", "least", "median", "most", "× OpenSSH"
    )
}

impl Times {
    /// How many times OpenSSH's median the provider's is.
    pub fn ratio(&self) -> f64 {
        median(&self.provider) / median(&self.openssh)
    }

    /// A line for each way.
    pub fn render(&self, rtt: f64) -> String {
        let ways = [
            ("OpenSSH", &self.openssh),
            ("provider", &self.provider),
            ("provisioners", &self.provisioners),
        ];
        let line = |(way, times): (&str, &Vec<Duration>)| {
            let sorted = sorted(times);
            let (least, most) = (
                sorted.first().copied().unwrap_or(f64::NAN),
                sorted.last().copied().unwrap_or(f64::NAN),
            );
            let median = median(times);
            format!(
                "{rtt:>5} ms  {way:<14} {least:>8.2} {median:>8.2} {most:>8.2} {:>10.2}\n",
                median / self::median(&self.openssh)
            )
        };
        ways.map(line).concat()
    }
}

fn sorted(times: &[Duration]) -> Vec<f64> {
    let mut seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    seconds
}

fn median(times: &[Duration]) -> f64 {
    let sorted = sorted(times);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}
