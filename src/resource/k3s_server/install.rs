//! What is on a server of k3s, and how it gets there.

use std::path::Path;
use std::time::Duration;

use super::errors::BringUpError;
use super::model::{CONFIGURATION, Install, K3sServerModel, TOKEN, installed_at};
use crate::host::shell::quote;
use crate::host::{FileSpec, Host, Output, PRIVILEGE, RunError, Script, Secret, Upload};
use crate::membership::incarnation::Incarnation;
use crate::resource::k3s::{directory, unit};

/// What was seen on the server.
#[derive(Clone, Debug, Default)]
pub struct Installed {
    /// The options.
    pub configuration: Option<String>,
    /// The unit and what it starts.
    pub files: (Option<String>, Option<String>),
    /// The program.
    pub binary: Option<String>,
    /// What the program that was asked for says it is.
    pub version: Option<String>,
    /// What of that program others than root can change.
    pub loose: Option<String>,
    /// systemd's word for the service.
    pub active: Option<String>,
    /// The object of Terraform's that it belongs to.
    pub object: Option<Incarnation>,
    /// It was to be restarted, and was not.
    pub pending: bool,
    /// Its member was removed from the cluster, by k3s' own word.
    pub removed: bool,
    /// What `kubectl` needs.
    pub kubeconfig: Option<Secret>,
    /// The token with the authority's checksum.
    pub join_token: Option<Secret>,
}

impl Installed {
    /// Whether k3s runs, or is being started.
    pub fn runs(&self) -> bool {
        matches!(self.active.as_deref(), Some("active" | "activating" | "reloading"))
    }

    /// Whether nothing of it is there.
    pub fn is_nothing(&self) -> bool {
        self.binary.is_none() && self.configuration.is_none()
    }

    /// Whether what runs there has exactly this. The guard is read at each start: another one needs no restart.
    pub fn is(&self, server: &K3sServerModel, configuration: &str, binary: &str) -> bool {
        let unit = unit::k3s(&server.cluster.name, server.has_etcd());
        self.configuration.as_deref() == Some(configuration)
            && self.binary.as_deref() == Some(binary)
            && self.files.0.as_ref() == Some(&unit)
    }

    /// Whether the guard is an earlier one.
    pub fn has_old_guard(&self, cluster: &str) -> bool {
        self.files.1.is_some() && self.files.1 != Some(unit::guard(cluster))
    }
}

/// Looks at one server. `wanted` is the program whose version is asked for.
///
/// # Errors
/// If the script fails.
pub async fn look(host: &Host, server: &K3sServerModel, wanted: &str) -> Result<Installed, RunError> {
    let script = Script::new("looking for k3s")
        .set("cluster", &server.cluster.name)
        .set("wanted", wanted)
        .line(PRIVILEGE)
        .line(include_str!("look.sh"));
    Ok(installed(&host.run_checked(&script).await?))
}

fn installed(output: &Output) -> Installed {
    let text = |key| output.text(key).map(str::to_owned);
    Installed {
        configuration: text("configuration"),
        files: (text("unit"), text("guard")),
        binary: output.value("binary").map(str::to_owned),
        version: output.value("version").map(str::to_owned),
        loose: output
            .value("loose")
            .filter(|loose| !loose.is_empty())
            .map(str::to_owned),
        active: output.value("ActiveState").map(str::to_owned),
        object: output.value("object").and_then(Incarnation::parse),
        pending: output.value("pending").is_some(),
        removed: output.value("removed").is_some(),
        kubeconfig: text("kubeconfig").map(Secret::new),
        join_token: text("join-token").map(|token| Secret::new(token.trim())),
    }
}

/// The checksum of a local program.
///
/// # Errors
/// If it can't be read.
pub fn local_sum(path: &str) -> std::io::Result<String> {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}

/// Where the program is to be on the server; none while a local file can't be read.
pub fn binary_path(install: &Install) -> Option<String> {
    match install {
        Install {
            host_path: Some(path), ..
        } => Some(path.clone()),
        Install {
            upload: Some(local), ..
        } => Some(installed_at(&local_sum(local).ok()?)),
        Install { sha256: Some(sum), .. } => Some(installed_at(&sum.to_ascii_lowercase())),
        _ => None,
    }
}

/// Brings the program onto the server, and checks what it is.
///
/// # Errors
/// If it can't be brought there, or is none.
pub async fn provide(host: &Host, server: &K3sServerModel, within: Duration) -> Result<(String, String), BringUpError> {
    let install = &server.install;
    let failed = |why: String| BringUpError::Binary {
        server: server.server.clone(),
        why,
    };
    let path = match install {
        Install {
            host_path: Some(path), ..
        } => path.clone(),
        Install {
            upload: Some(local), ..
        } => {
            let sum = local_sum(local).map_err(|error| failed(format!("{local} can't be read: {error}")))?;
            let to = installed_at(&sum);
            let folder = Path::new(&to).parent().map(|folder| folder.display().to_string());
            let script = Script::new("making the folder for k3s")
                .set("folder", folder.unwrap_or_default())
                .line(PRIVILEGE)
                .line("umask 022; mkdir -p \"$folder\"; only_roots \"$folder\"");
            host.run_checked(&script).await?;
            let upload = Upload {
                from: local.into(),
                to: to.clone(),
                mode: 0o755,
                sha256: sum,
                look_first: true,
            };
            host.upload(&upload).await.map_err(|error| failed(error.to_string()))?;
            to
        }
        Install {
            url: Some(url),
            sha256: Some(sum),
            ..
        } => {
            let (sum, to) = (sum.to_ascii_lowercase(), installed_at(&sum.to_ascii_lowercase()));
            let script = Script::new("fetching k3s")
                .timeout(within)
                .line(PRIVILEGE)
                .line(format!("only_roots {}", quote(&to)))
                .line(include_str!("fetch.sh"))
                .line(format!("fetch_k3s {} {} {}", quote(url), quote(&sum), quote(&to)));
            host.run_checked(&script).await?;
            to
        }
        _ => return Err(failed("install says nothing".to_owned())),
    };
    let Installed {
        version: found, loose, ..
    } = look(host, server, &path).await?;
    if let Some(loose) = loose {
        return Err(failed(format!(
            "another user than root can change what root would run from {path} ({loose}). Make it root's alone (`chown root:root`, \
             `chmod go-w`), the folders above it too, or use another place. Nothing was changed on this server"
        )));
    }
    match (found, &server.version) {
        (None, _) => Err(failed(format!("there is no program at {path}"))),
        (Some(found), Some(wanted)) if version_text(&found) != version_text(wanted) => Err(failed(format!(
            "the program at {path} is k3s {found}, and version is {wanted}"
        ))),
        (Some(found), _) => Ok((path, found)),
    }
}

/// A version as k3s writes it, with a "v" in front.
pub fn version_text(text: &str) -> String {
    format!("v{}", text.trim_start_matches('v'))
}

/// What lets a server start that has no data.
#[derive(Clone, Debug)]
pub enum Permit {
    /// None: it has data, or needs none.
    None,
    /// To found the cluster.
    Found,
    /// To join through this address.
    Join(String),
}

/// Brings the guard up to date, which the next start reads.
pub fn guard(cluster: &str) -> Script {
    let etc = directory(cluster);
    Script::new("writing what starts k3s")
        .line(PRIVILEGE)
        .set("etc", &etc)
        .line("only_roots \"$etc\"")
        .write_file(&unit::file(format!("{etc}/guard"), 0o755, unit::guard(cluster)))
}

/// Files, permits and start, in one script. What runs is restarted.
pub fn start(
    server: &K3sServerModel,
    configuration: &str,
    binary: &str,
    token: Option<&Secret>,
    permit: &Permit,
    object: Option<FileSpec>,
) -> Script {
    let cluster = &server.cluster.name;
    let etc = directory(cluster);
    let mut script = Script::new("starting k3s")
        .timeout(Duration::from_secs(180))
        .set("etc", &etc)
        .set("binary", binary)
        .line(PRIVILEGE)
        .line("umask 022; mkdir -p \"$etc\" /etc/rancher/k3s/config.yaml.d; umask 077")
        .line("only_roots \"$etc\"; only_roots /etc/rancher/k3s/config.yaml.d")
        // Until it runs with these files.
        .line(": >\"$etc/restart-pending\"; rm -f \"$etc/resting\"")
        .write_file(&unit::file(CONFIGURATION, 0o600, configuration))
        .write_file(&unit::file(
            "/etc/systemd/system/k3s.service",
            0o644,
            unit::k3s(cluster, server.has_etcd()),
        ))
        .write_file(&unit::file(format!("{etc}/guard"), 0o755, unit::guard(cluster)))
        .write_file(&unit::file(format!("{etc}/binary"), 0o644, format!("{binary}\n")));
    if let Some(token) = token {
        script = script.write_file(&unit::file(TOKEN, 0o600, format!("{}\n", token.expose())));
    }
    if let Some(object) = object {
        script = script.write_file(&object);
    }
    if !server.has_etcd() {
        script = script.write_file(&unit::file(format!("{etc}/external"), 0o644, ""));
    }
    script = match permit {
        Permit::None => script,
        Permit::Found => script.line("rm -f \"$etc/joining-permit\"").write_file(&unit::file(
            format!("{etc}/founding-permit"),
            0o600,
            format!("{}\n", server.cluster.id()),
        )),
        Permit::Join(url) => script.line("rm -f \"$etc/founding-permit\"").write_file(&unit::file(
            format!("{etc}/joining-permit"),
            0o600,
            format!("server: {url}\n"),
        )),
    };
    script
        .line("umask 022; mkdir -p /usr/local/bin")
        .line("case $binary in /usr/local/lib/etcd-k3s/*) if [ -L /usr/local/bin/k3s ] || [ ! -e /usr/local/bin/k3s ]; then ln -sfn \"$binary\" /usr/local/bin/k3s; fi ;; esac")
        .line("systemctl daemon-reload\nsystemctl reset-failed k3s.service 2>/dev/null || true")
        .line("systemctl --quiet enable k3s.service\nsystemctl stop k3s.service 2>/dev/null || true\nsystemctl start --no-block k3s.service")
}
