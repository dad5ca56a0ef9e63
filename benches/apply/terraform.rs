//! A working directory in which real Terraform runs, in the network of the lab's controller.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use etcd_lab::{Lab, cache_folder};
use serde_json::Value;
use tempfile::TempDir;

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-etcd");

/// One configuration and its state.
pub struct Terraform<'a> {
    lab: &'a Lab,
    program: PathBuf,
    folder: TempDir,
}

impl<'a> Terraform<'a> {
    /// A fresh directory with `configuration` as its `main.tf`, and the provider in a filesystem mirror beside it.
    pub fn new(lab: &'a Lab, minor: &str, configuration: &str) -> Result<Self> {
        let program = cache_folder().join("terraform").join(minor).join("terraform");
        ensure!(program.exists(), "there is no {}: run tests/setup", program.display());
        let terraform = Self {
            lab,
            program,
            folder: tempfile::Builder::new().prefix("benchmark-").tempdir()?,
        };
        let mirror = terraform.folder.path().join("mirror");
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let package = mirror.join(format!(
            "registry.terraform.io/crossnet/etcd/{}/linux_{architecture}",
            env!("CARGO_PKG_VERSION")
        ));
        fs::create_dir_all(&package)?;
        let name = format!("terraform-provider-etcd_v{}", env!("CARGO_PKG_VERSION"));
        std::os::unix::fs::symlink(PROVIDER, package.join(name))?;
        let settings = format!(
            "disable_checkpoint = true\nprovider_installation {{\n  filesystem_mirror {{\n    path = {:?}\n  }}\n}}\n",
            mirror.display().to_string()
        );
        fs::write(terraform.settings(), settings)?;
        fs::create_dir(terraform.work())?;
        terraform.write("main.tf", configuration)?;
        Ok(terraform)
    }

    /// Gives the configuration its variables and runs `terraform init`.
    pub fn prepare(&self, variables: &Value) -> Result<()> {
        self.write("terraform.tfvars.json", &variables.to_string())?;
        self.run(&["init", "-input=false", "-no-color"])
    }

    /// `terraform apply`, without a question.
    pub fn apply(&self) -> Result<()> {
        self.run(&["apply", "-auto-approve", "-input=false", "-no-color"])
    }

    /// Removes the state: the servers were cleared behind Terraform's back.
    pub fn forget(&self) -> Result<()> {
        for name in ["terraform.tfstate", "terraform.tfstate.backup"] {
            let file = self.work().join(name);
            if file.exists() {
                fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
            }
        }
        Ok(())
    }

    /// Writes a file beside the configuration and says where it is.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let file = self.work().join(name);
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("terraformrc")
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.lab.controller(&self.program.display().to_string());
        command
            .args(arguments)
            .current_dir(self.work())
            .env("TF_CLI_CONFIG_FILE", self.settings())
            .env("TF_IN_AUTOMATION", "1")
            .env_remove("TF_LOG")
            .stdin(Stdio::null());
        let output = command.output().context("starting Terraform")?;
        if !output.status.success() {
            let (said, complaint) = (
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
            bail!("terraform {}: {}\n{said}{complaint}", arguments[0], output.status);
        }
        Ok(())
    }
}
