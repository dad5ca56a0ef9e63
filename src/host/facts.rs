//! What a machine says about itself. PURE but for [`Host::facts`].

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::clock::ClockOffset;
use super::errors::RunError;
use super::hosts::Host;
use super::output::Output;
use super::script::Script;

/// What a machine says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `ID` of `/etc/os-release`: `debian`, `rhel`, `alpine`, … Empty where there is none.
    pub os_id: String,
    /// `VERSION_ID` of `/etc/os-release`. Empty where there is none.
    pub os_version: String,
    /// `PRETTY_NAME` of `/etc/os-release`. Empty where there is none.
    pub os_name: String,
    /// As etcd's releases call it: `amd64`, `arm64`, `ppc64le`, `s390x`, `riscv64`; else what `uname -m` says.
    pub arch: String,
    /// `uname -r`.
    pub kernel: String,
    /// What starts services.
    pub init_system: InitSystem,
    /// The host name.
    pub hostname: String,
    /// Addresses of all interfaces, loopback included.
    pub addresses: Vec<IpAddr>,
    /// Those IPv4 addresses of them that its loopback interface has.
    pub on_loopback: Vec<IpAddr>,
    /// The machine's clock minus ours, in milliseconds.
    pub clock_offset_ms: i64,
    /// `clock_offset_ms` may be wrong by as much: half of what the answer took on its way, and a second where the machine's `date` knows no parts of one.
    pub clock_uncertainty_ms: i64,
    /// What cloud-init is doing; `None` where there is none.
    pub cloud_init: Option<CloudInit>,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Free space in MiB where `/var/lib` is.
    pub disk_free_mib: u64,
}

/// What starts services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitSystem {
    /// systemd, with its version.
    Systemd {
        /// The first number that `systemctl --version` prints; 0 when it prints none.
        version: u32,
    },
    /// Anything else: the name of process 1.
    Other(String),
}

/// What cloud-init is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudInit {
    /// It still works on this boot: wait.
    Running,
    /// It is done, with errors or without.
    Done,
    /// It is installed, and doesn't run on this machine.
    Disabled,
}

impl Facts {
    /// Whether systemd starts services.
    pub fn has_systemd(&self) -> bool {
        matches!(self.init_system, InitSystem::Systemd { .. })
    }

    /// Whether an interface has this address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }
}

impl Host {
    /// Asks the machine about itself: one script.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn facts(&self) -> Result<Facts, RunError> {
        let output = self.run_checked(&script()).await?;
        Ok(parse(&output, SystemTime::now()))
    }
}

/// Answers with what even busybox has. Cloud-init's own files are looked at, since `cloud-init status` starts Python and takes a second.
fn script() -> Script {
    Script::new("asking the machine about itself").timeout(Duration::from_secs(30)).line(
        r#"set +e
tell date_first "$(date +%s.%N)"
if [ -r /etc/os-release ]; then
  ( . /etc/os-release; tell os_id "${ID-}"; tell os_version "${VERSION_ID-}"; tell os_name "${PRETTY_NAME-}" )
fi
tell machine "$(uname -m)"
read -r kernel </proc/sys/kernel/osrelease && tell kernel "$kernel"
read -r hostname </proc/sys/kernel/hostname && tell hostname "$hostname"
read -r init </proc/1/comm && tell init "$init"
if [ -d /run/systemd/system ]; then tell systemd "$(systemctl --version 2>/dev/null | { read -r _ version _; echo "$version"; })"; fi
if command -v ip >/dev/null 2>&1; then
  ip addr show 2>/dev/null | while read -r kind address rest; do
    case $kind in inet|inet6) tell_each address "${address%%/*}";; esac
    case "$kind $rest" in "inet "*" lo") tell_each on_loopback "${address%%/*}";; esac
  done
else
  ifconfig -a 2>/dev/null | while read -r kind first second third rest; do
    case $kind in inet) tell_each address "${first#addr:}";; inet6) [ "$first" = addr: ] && first=$second; tell_each address "${first%%/*}";; esac
  done
fi
while read -r key value unit; do [ "$key" = MemTotal: ] && tell memory_kib "$value"; done </proc/meminfo
df -Pk /var/lib 2>/dev/null | while read -r device total used free rest; do tell_each disk_free_kib "$free"; done
if [ -e /run/cloud-init/disabled ]; then tell cloud_init disabled
elif [ -e /var/lib/cloud/instance/boot-finished ] || [ -e /run/cloud-init/result.json ]; then tell cloud_init done
elif [ -d /run/cloud-init ]; then tell cloud_init running
fi
tell date_last "$(date +%s.%N)"
exit 0"#,
    )
}

/// `received` is when the answer was there, by our clock.
fn addresses(output: &Output, key: &str) -> Vec<IpAddr> {
    let parsed = |address: &str| address.split('%').next()?.parse().ok();
    output.values(key).filter_map(parsed).collect()
}

fn parse(output: &Output, received: SystemTime) -> Facts {
    let text = |key| output.value(key).unwrap_or_default().trim().to_owned();
    let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
    // Behind a heading.
    let disk_free = output.values("disk_free_kib").last();
    let init_system = match output.value("systemd") {
        Some(version) => InitSystem::Systemd {
            version: version.trim().parse().unwrap_or(0),
        },
        None => InitSystem::Other(text("init")),
    };
    let clock = ClockOffset::of(output, received).unwrap_or(ClockOffset {
        ms: 0,
        uncertainty_ms: i64::MAX,
    });
    Facts {
        os_id: text("os_id"),
        os_version: text("os_version"),
        os_name: text("os_name"),
        arch: architecture(&text("machine")),
        kernel: text("kernel"),
        init_system,
        hostname: text("hostname"),
        addresses: addresses(output, "address"),
        on_loopback: addresses(output, "on_loopback"),
        clock_offset_ms: clock.ms,
        clock_uncertainty_ms: clock.uncertainty_ms,
        cloud_init: match output.value("cloud_init") {
            Some("running") => Some(CloudInit::Running),
            Some("done") => Some(CloudInit::Done),
            Some("disabled") => Some(CloudInit::Disabled),
            _ => None,
        },
        memory_mib: number(output.value("memory_kib")) / 1024,
        disk_free_mib: number(disk_free) / 1024,
    }
}

fn architecture(machine: &str) -> String {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn answer(stdout: &str, elapsed_ms: u64) -> Output {
        let mut output = Output::of_answers(stdout);
        output.elapsed = Duration::from_millis(elapsed_ms);
        output
    }

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn a_debian() {
        let facts = parse(
            &answer(
                "date_first=1700000005.000000000\nos_id=debian\nos_version=12\nos_name=Debian GNU/Linux 12 (bookworm)\nmachine=x86_64\nkernel=6.1.0\nhostname=a1\ninit=systemd\nsystemd=252\naddress[]=127.0.0.1\naddress[]=10.0.0.11\naddress[]=100.64.77.1\non_loopback[]=127.0.0.1\non_loopback[]=100.64.77.1\naddress[]=::1\naddress[]=fe80::1\nmemory_kib=2097152\ndisk_free_kib[]=Available\ndisk_free_kib[]=1048576\ncloud_init=running\ndate_last=1700000005.020000000\n",
                120,
            ),
            at(1_700_000_000_070),
        );
        assert_eq!(
            (facts.os_id.as_str(), facts.arch.as_str(), facts.hostname.as_str()),
            ("debian", "amd64", "a1")
        );
        assert_eq!(facts.init_system, InitSystem::Systemd { version: 252 });
        assert!(facts.has_address("10.0.0.11".parse().expect("an address")));
        assert_eq!(facts.addresses.len(), 5);
        assert_eq!(facts.on_loopback.len(), 2);
        assert_eq!(facts.cloud_init, Some(CloudInit::Running));
        assert_eq!((facts.memory_mib, facts.disk_free_mib), (2048, 1024));
        // 120 ms, of which 20 in the script: 50 ms on the way back. The host wrote 5.020 when we had 0.020.
        assert_eq!((facts.clock_offset_ms, facts.clock_uncertainty_ms), (5000, 51));
    }

    #[test]
    fn a_busybox_without_much() {
        let facts = parse(
            &answer(
                "date_first=1700000000.%N\nmachine=aarch64\ninit=init\ndate_last=1700000000.%N\n",
                10,
            ),
            at(1_700_000_000_005),
        );
        assert_eq!(
            (facts.arch.as_str(), facts.init_system, facts.cloud_init),
            ("arm64", InitSystem::Other("init".to_owned()), None)
        );
        assert_eq!((facts.clock_offset_ms, facts.clock_uncertainty_ms), (0, 1006));
    }

    #[test]
    fn the_script_runs_in_every_shell() {
        for shell in [vec!["sh"], vec!["bash", "--posix"], vec!["busybox", "sh"]] {
            let Ok(ran) = std::process::Command::new(shell[0])
                .args(&shell[1..])
                .arg("-c")
                .arg(script().render())
                .output()
            else {
                continue;
            };
            let facts = parse(&answer(&String::from_utf8_lossy(&ran.stdout), 0), SystemTime::now());
            assert!(
                !facts.kernel.is_empty() && !facts.arch.is_empty() && facts.memory_mib > 0,
                "{shell:?}: {facts:?}"
            );
            assert!(
                facts.has_address("127.0.0.1".parse().expect("an address")),
                "{shell:?}: {facts:?}"
            );
            assert!(facts.clock_offset_ms.abs() < 5000, "{shell:?}: {facts:?}");
        }
    }
}
