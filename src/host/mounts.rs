//! What is mounted below folders, and deleting without going through it. PURE.

/// Shell functions: `mounts`, `decode`, `nothing_mounted_below`, `delete_trees`. They need [`super::ANSWERS`], which every script has.
pub const MOUNTS: &str = include_str!("mounts.sh");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::ANSWERS;
    use std::process::{Command, Output};

    /// Runs it in a mount namespace of its own, in each shell that is there.
    fn in_each(text: &str) -> Vec<Output> {
        if !rustix::process::geteuid().is_root() {
            return Vec::new();
        }
        let shells: [&[&str]; 3] = [&["sh"], &["bash", "--posix"], &["busybox", "sh"]];
        let shells = shells
            .iter()
            .filter(|shell| Command::new(shell[0]).arg("--help").output().is_ok());
        let run = |shell: &&[&str]| {
            let folder = tempfile::tempdir().expect("a folder");
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private"]).args(*shell);
            command
                .args(["-euc", &format!("cd \"$1\"\n{ANSWERS}{MOUNTS}{text}"), "sh"])
                .arg(folder.path());
            command.output().expect("it runs")
        };
        shells.map(run).collect()
    }

    fn said(output: &Output) -> String {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// As the kernel writes such names, and as they are.
    #[test]
    fn odd_names_of_mount_points_are_read() {
        let text = "
            mkdir -p 'tree/a 1' 'tree/a\\040' tree/plain other 'tree 2/x'
            odd=$(printf 'tree/line\\nend\\t0401.'); odd=${odd%.}; mkdir \"$odd\"
            for point in 'tree/a 1' 'tree/a\\040' \"$odd\" tree/plain other 'tree 2/x'; do mount -t tmpfs tmpfs \"$point\"; done
            ln -s tree link
            mounts below link 'tree 2' tree/plain nothing/there | while IFS= read -r point; do decode \"$point\"; printf '<%s>' \"${decoded#\"$PWD\"/}\"; done
            mounts at tree/plain; mounts at link
            nothing_mounted_below other; if nothing_mounted_below link; then echo wrong; fi";
        for output in in_each(text) {
            let said = said(&output);
            assert!(
                said.starts_with("<tree/plain><tree/line\nend\t0401><tree/a\\040><tree/a 1><tree 2/x>"),
                "{said}"
            );
            assert_eq!(said.matches("mounted[]").count(), 4, "{said}");
            assert!(said.contains("/tree/plain\n") && !said.contains("wrong"), "{said}");
        }
    }

    /// A bind mount of the same file system is no other device: `--one-file-system` alone would go through it.
    #[test]
    fn nothing_is_deleted_through_a_mount() {
        let text = "
            mkdir -p volume tree/deep/point gone/x disk/lost+found; echo kept >volume/file; touch tree/file
            mount --bind volume tree/deep/point
            ( delete_trees gone tree 2>said ) || echo refused; grep -q 'Nothing was deleted' said
            cat volume/file; ls gone tree
            umount tree/deep/point; delete_trees gone tree nothing/there; ls -d gone tree 2>/dev/null || true
            mount -t tmpfs tmpfs disk; mkdir -p disk/lost+found disk/a/b; touch disk/.c; delete_trees disk; ls -A disk";
        for output in in_each(text) {
            assert_eq!(
                said(&output),
                "refused\nkept\ngone:\nx\n\ntree:\ndeep\nfile\nlost+found\n"
            );
        }
    }
}
