//! Real Terraform in the lab's controller, with the provider that was just built.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use etcd_lab::{Lab, Output, cache_folder};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::complaint::Complaint;

/// The versions that everything is tried with.
pub const VERSIONS: [&str; 2] = ["1.11", "1.15"];
/// The provider that was just built.
pub const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-etcd");
/// What Terraform finds it under.
const PLUGIN: &str = "terraform-provider-etcd_v0.1.0";

/// The oldest OpenTofu that has all that members need.
pub const OPENTOFU: &str = "opentofu-1.11";

/// The Terraform of a minor version, one of [`VERSIONS`], or the OpenTofu of one. `ACCEPTANCE_TERRAFORM` has another program run in the
/// place of all of them.
pub fn program(minor: &str) -> Result<PathBuf> {
    if let Some(other) = std::env::var_os("ACCEPTANCE_TERRAFORM") {
        return Ok(other.into());
    }
    let program = match minor.strip_prefix("opentofu-") {
        Some(minor) => cache_folder().join("opentofu").join(minor).join("tofu"),
        None => cache_folder().join("terraform").join(minor).join("terraform"),
    };
    ensure!(program.exists(), "there is no {}: run tests/setup", program.display());
    Ok(program)
}

/// A working directory with a configuration, and the Terraform of one version to run in it.
pub struct Terraform<'a> {
    lab: &'a Lab,
    program: PathBuf,
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl<'a> Terraform<'a> {
    /// A fresh working directory. `minor` is one of [`VERSIONS`], or [`OPENTOFU`]. The provider is found in a filesystem mirror, so that
    /// `terraform init` does what it does for a user.
    pub fn new(lab: &'a Lab, minor: &str) -> Result<Self> {
        let program = program(minor)?;
        let folder = tempfile::Builder::new().prefix("acceptance-").tempdir()?;
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mirror = folder.path().join("mirror");
        // Where Terraform and OpenTofu look for one whose `source` names no registry.
        for registry in ["registry.terraform.io", "registry.opentofu.org"] {
            let package = mirror.join(format!("{registry}/crossnet/etcd/0.1.0/linux_{architecture}"));
            fs::create_dir_all(&package)?;
            // A file of its own: a build in the meantime must not change what `terraform init` has locked.
            // Measurements are of one of the release profile.
            let provider = std::env::var("ACCEPTANCE_PROVIDER").unwrap_or_else(|_| PROVIDER.to_owned());
            place(&provider, &package.join(PLUGIN))?;
        }
        let settings = format!(
            "disable_checkpoint = true\nprovider_installation {{\n  filesystem_mirror {{\n    path = {:?}\n  }}\n}}\n",
            mirror.display().to_string()
        );
        fs::write(folder.path().join("terraformrc"), settings)?;
        fs::create_dir(folder.path().join("work"))?;
        Ok(Self {
            lab,
            program,
            folder,
            environment: Vec::new(),
        })
    }

    /// Uses another build of the provider from the next `configure` on.
    pub fn use_provider(&self, provider: &str) -> Result<()> {
        for registry in ["registry.terraform.io", "registry.opentofu.org"] {
            let of_it = self
                .folder
                .path()
                .join("mirror")
                .join(registry)
                .join("crossnet/etcd/0.1.0");
            for package in fs::read_dir(of_it)? {
                let plugin = package?.path().join(PLUGIN);
                fs::remove_file(&plugin)?;
                place(provider, &plugin)?;
            }
        }
        let lock = self.work().join(".terraform.lock.hcl");
        if lock.exists() {
            fs::remove_file(lock)?;
        }
        Ok(())
    }

    /// Sets a variable of Terraform's environment from now on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// Writes everything that Terraform and the provider can log to the file that this returns.
    pub fn log_everything(&mut self) -> PathBuf {
        let log = self.folder.path().join("trace.log");
        self.set_environment("TF_LOG", "TRACE");
        self.set_environment("TF_LOG_PATH", &log.display().to_string());
        log
    }

    /// The folder with the configuration and the state.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Writes `main.tf` and runs `terraform init`.
    pub fn configure(&self, text: &str) -> Result<()> {
        self.write("main.tf", text)?;
        self.run(&["init", "-input=false"])?.ok().map(drop)
    }

    /// Writes a file of the configuration.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.work().join(name), text).with_context(|| format!("writing {name}"))
    }

    /// Runs Terraform to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.start(arguments)?.wait()
    }

    /// `terraform apply` without a question; its words when it succeeds.
    pub fn apply(&self) -> Result<String> {
        self.run(&["apply", "-auto-approve", "-input=false", "-no-color"])?
            .ok()
            .context("terraform apply")
    }

    /// What `terraform apply` complains of; an error when it succeeds.
    pub fn apply_fails(&self) -> Result<String> {
        let output = self.run(&["apply", "-auto-approve", "-input=false", "-no-color"])?;
        ensure!(!output.success(), "terraform apply succeeded:\n{}", output.stdout);
        Ok(plain(&output.stderr))
    }

    /// The errors of an apply; an error when it succeeds.
    pub fn complaints(&self) -> Result<Vec<Complaint>> {
        let output = self.run(&["apply", "-auto-approve", "-input=false", "-json"])?;
        ensure!(!output.success(), "terraform apply succeeded:\n{}", output.stdout);
        Ok(Complaint::all(&output.stdout))
    }

    /// Forgets what was made, as if this were a fresh working directory.
    pub fn forget(&self) -> Result<()> {
        for name in ["terraform.tfstate", "terraform.tfstate.backup"] {
            let file = self.work().join(name);
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }

    /// `terraform destroy` without a question.
    pub fn destroy(&self) -> Result<String> {
        self.run(&["destroy", "-auto-approve", "-input=false", "-no-color"])?
            .ok()
            .context("terraform destroy")
    }

    /// Succeeds when a plan finds nothing to do.
    pub fn nothing_to_do(&self) -> Result<()> {
        let output = self.run(&["plan", "-detailed-exitcode", "-input=false", "-no-color"])?;
        ensure!(
            output.code == 0,
            "terraform plan, exit code {}:\n{}{}",
            output.code,
            output.stdout,
            output.stderr
        );
        Ok(())
    }

    /// Succeeds if a refresh finds what the state has, to the last attribute and output. Terraform 1.11 compares lists of sensitive attributes
    /// whose order is chance: if a resource has several, this needs a later one.
    pub fn untouched(&self) -> Result<()> {
        let plan = [
            "plan",
            "-refresh-only",
            "-detailed-exitcode",
            "-input=false",
            "-no-color",
        ];
        let output = self.run(&plan)?;
        ensure!(
            output.code == 0,
            "terraform plan -refresh-only, exit code {}:\n{}{}",
            output.code,
            output.stdout,
            output.stderr
        );
        Ok(())
    }

    /// The state as `terraform show -json` has it.
    pub fn state(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&["show", "-json"])?.ok()?)?)
    }

    /// The attributes of the resource at `address`, such as `etcd_member.this["a1"]`.
    pub fn attributes(&self, address: &str) -> Result<Value> {
        let state = self.state()?;
        let resources = state["values"]["root_module"]["resources"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = resources.into_iter().find(|resource| resource["address"] == address);
        found
            .map(|mut resource| resource["values"].take())
            .with_context(|| format!("no {address} in the state"))
    }

    /// Runs lines of a shell in the working directory, in which `terraform` is this one.
    pub fn shell(&self, lines: &str) -> Result<Output> {
        let folder = self.program.parent().context("Terraform is in no folder")?.display();
        let script = format!("PATH={folder}:$PATH\n{lines}");
        self.start_program("sh", &["-euc", &script])?.wait()
    }

    /// Starts Terraform in the background.
    pub fn start(&self, arguments: &[&str]) -> Result<Running> {
        self.start_program(&self.program.display().to_string(), arguments)
    }

    fn start_program(&self, program: &str, arguments: &[&str]) -> Result<Running> {
        let mut command: Command = self.lab.controller(program);
        command
            .args(arguments)
            .current_dir(self.work())
            .env("TF_CLI_CONFIG_FILE", self.folder.path().join("terraformrc"));
        command.env("TF_IN_AUTOMATION", "1").env_remove("TF_LOG");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("starting Terraform")?;
        let stdout = reader(child.stdout.take());
        let stderr = reader(child.stderr.take());
        Ok(Running { child, stdout, stderr })
    }
}

fn place(provider: &str, plugin: &std::path::Path) -> Result<()> {
    if fs::hard_link(provider, plugin).is_err() {
        fs::copy(provider, plugin).context("copying the provider")?;
    }
    Ok(())
}

/// A Terraform that runs.
pub struct Running {
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Running {
    /// The provider's processes (Terraform starts one for a plan and one for an apply).
    pub fn providers(&self) -> Vec<u32> {
        children_of(self.child.id())
            .into_iter()
            .filter(|process| is_provider(*process))
            .collect()
    }

    /// Waits until the provider runs, then kills it as `kill -9` does.
    pub fn kill_provider(&mut self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let providers = self.providers();
            for process in &providers {
                signal(*process, Signal::KILL)?;
            }
            if !providers.is_empty() {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || Instant::now() > until {
                bail!("Terraform has no provider that could be killed");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Presses Ctrl-C: the whole foreground group gets it, and so does the provider.
    pub fn interrupt(&self) -> Result<()> {
        for process in self.providers() {
            signal(process, Signal::INT)?;
        }
        signal(self.child.id(), Signal::INT)
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Result<Output> {
        let status = self.child.wait().context("waiting for Terraform")?;
        let text = |reader: JoinHandle<String>| reader.join().unwrap_or_default();
        Ok(Output {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: text(self.stdout),
            stderr: text(self.stderr),
        })
    }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).ok();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn signal(process: u32, signal: Signal) -> Result<()> {
    let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else {
        bail!("no process {process}")
    };
    // It may have ended in the meantime.
    kill_process(pid, signal).or_else(|error| {
        if error == rustix::io::Errno::SRCH {
            Ok(())
        } else {
            Err(error.into())
        }
    })
}

fn is_provider(process: u32) -> bool {
    fs::read_link(format!("/proc/{process}/exe"))
        .is_ok_and(|program| program.file_name().is_some_and(|name| name == PLUGIN))
}

fn children_of(parent: u32) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // After the name in parentheses: the state, then the parent.
        stat.rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok())
            == Some(parent)
    };
    numbers.filter(is_child).collect()
}

/// Terraform's diagnostics without the frame, on one line each paragraph: what a test looks for may be wrapped.
fn plain(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.trim_matches(|c: char| c.is_whitespace() || "╷│╵".contains(c)));
    let joined = lines.fold(String::new(), |text, line| {
        if line.is_empty() {
            text + "\n"
        } else {
            text + line + " "
        }
    });
    joined
        .split('\n')
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}
