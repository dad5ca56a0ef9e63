use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

fn cluster(name: &str) -> ClusterName {
    ClusterName::parse(name).unwrap()
}

fn lines(text: &[&str]) -> Vec<String> {
    text.iter().map(|l| (*l).to_owned()).collect()
}

fn changed(edit: Result<Edit, HostsBlockError>) -> Vec<u8> {
    match edit {
        Ok(Edit::Changed(new)) => new,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_block_is_appended_replaced_and_removed() {
    let main = cluster("main");
    let file = b"127.0.0.1 localhost\n";
    let one = changed(apply(file, &main, &lines(&["10.0.0.11 a1.main.etcd.internal"])));
    assert_eq!(
        String::from_utf8(one.clone()).unwrap(),
        "127.0.0.1 localhost\n\
         # BEGIN etcd cluster main (managed by Terraform)\n\
         10.0.0.11 a1.main.etcd.internal\n\
         # END etcd cluster main (managed by Terraform)\n"
    );
    let mut more = one.clone();
    more.extend_from_slice(b"\xff\xfe not UTF-8\r\n192.0.2.1 x");
    let two = changed(apply(&more, &main, &lines(&["10.0.0.12 a1.main.etcd.internal"])));
    assert!(two.ends_with(b"(managed by Terraform)\n\xff\xfe not UTF-8\r\n192.0.2.1 x"));
    assert_eq!(
        apply(&two, &main, &lines(&["10.0.0.12 a1.main.etcd.internal"])),
        Ok(Edit::Unchanged)
    );
    assert_eq!(
        changed(remove(&two, &main)),
        b"127.0.0.1 localhost\n\xff\xfe not UTF-8\r\n192.0.2.1 x"
    );
    assert_eq!(remove(file, &main), Ok(Edit::Unchanged));
}

#[test]
fn two_clusters_do_not_touch_each_other() {
    let first = changed(apply(b"", &cluster("main"), &lines(&["10.0.0.1 a"])));
    let both = changed(apply(&first, &cluster("main-2"), &lines(&["10.0.0.2 b"])));
    assert_eq!(changed(remove(&both, &cluster("main-2"))), first);
}

#[test]
fn broken_blocks_are_refused() {
    let main = cluster("main");
    let (begin, end) = (begin_mark(&main), end_mark(&main));
    let other = begin_mark(&cluster("other"));
    for file in [
        begin.clone(),
        end.clone(),
        format!("{end}\n{begin}\n"),
        format!("{begin}\n{end}\n{begin}\n{end}\n"),
        format!("{begin}\n{begin}\n{end}\n"),
    ] {
        let refusal = apply(file.as_bytes(), &main, &[]).unwrap_err();
        assert!(matches!(refusal, HostsBlockError::BrokenBlock { .. }), "{refusal}");
        assert_eq!(remove(file.as_bytes(), &main).unwrap_err(), refusal);
    }
    let interleaved = format!("x\n{begin}\ny\n{other}\n{end}\n");
    assert_eq!(
        remove(interleaved.as_bytes(), &main),
        Err(HostsBlockError::Interleaved { begin, line: 4 })
    );
    assert_eq!(apply(b"a\0b\n", &main, &[]), Err(HostsBlockError::NulByte));
}

/// Runs the script on a file; the new content, the word that it printed, and whether it refused.
fn by_script(shell: &[&str], file: &[u8], cluster: &ClusterName, block: &str) -> Result<(Vec<u8>, String), String> {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts file");
    std::fs::write(&path, file).unwrap();
    let inode = std::fs::metadata(&path).unwrap().ino();
    let mut child = Command::new(shell[0])
        .args(&shell[1..])
        .args(["-s", "--"])
        .arg(&path)
        .args([&begin_mark(cluster), &end_mark(cluster), block])
        .env("TMPDIR", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let locks = tempfile::tempdir().unwrap();
    let locks = locks.path().display();
    let script = format!(
        "locks={locks}\n{}{}\nedit_hosts \"$@\"\n",
        include_str!("../../host/privilege.sh"),
        script()
    );
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let new = std::fs::read(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "temporary files were left"
    );
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(65) {
        assert_eq!(new, file, "a refusal must not write");
        return Err(stderr);
    }
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "");
    Ok((new, String::from_utf8(output.stdout).unwrap().trim().to_owned()))
}

/// What the pure edit gives must be what the script gives.
fn check_script(shell: &[&str], file: &[u8], cluster: &ClusterName, lines: Option<&[String]>) {
    let (pure, block) = match lines {
        Some(lines) => (apply(file, cluster, lines), render(cluster, lines)),
        None => (remove(file, cluster), String::new()),
    };
    let real = by_script(shell, file, cluster, &block);
    match (pure, real) {
        (Ok(Edit::Unchanged), Ok((new, word))) => {
            assert_eq!((new.as_slice(), word.as_str()), (file, "unchanged"));
        }
        (Ok(Edit::Changed(pure)), Ok((new, word))) => {
            assert_eq!(String::from_utf8_lossy(&new), String::from_utf8_lossy(&pure));
            assert_eq!((new, word.as_str()), (pure, "changed"));
        }
        (Err(_), Err(said)) => assert!(said.contains("by hand"), "{said}"),
        (pure, real) => panic!("the pure edit says {pure:?}, the script says {real:?}"),
    }
}

/// Pieces that a hosts file could be made of, the awkward ones first.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let main = cluster("main");
    let other = cluster("main-2");
    prop_oneof![
        1 => Just(begin_mark(&main).into_bytes()),
        1 => Just(end_mark(&main).into_bytes()),
        1 => Just(render(&other, &["10.0.0.9 x".to_owned()]).into_bytes()),
        3 => Just(render(&main, &["10.0.0.9 x".to_owned()]).into_bytes()),
        1 => Just(NO_NEWLINE_NOTE.as_bytes().to_vec()),
        1 => Just(b"\xff\xc3\x28".to_vec()),
        4 => Just(b"\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"\\t%s $0 & 'x".to_vec()),
        2 => "[a-z0-9 .:#\t]{0,20}\n".prop_map(String::into_bytes),
        1 => prop::collection::vec(1u8.., 0..12),
        1 => Just(vec![0]),
    ]
}

fn host_file() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..8).prop_map(|pieces| pieces.concat())
}

fn host_lines() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[0-9]{1,3}\\.0\\.0\\.1 [a-z]{1,8}\\.main", 0..4)
}

proptest! {
    #[test]
    fn removing_gives_back_what_was_there(file in host_file(), lines in host_lines()) {
        let main = cluster("main");
        if let Ok(Edit::Unchanged) = remove(&file, &main) {
            let with = changed(apply(&file, &main, &lines));
            prop_assert_eq!(apply(&with, &main, &lines), Ok(Edit::Unchanged));
            prop_assert_eq!(changed(remove(&with, &main)), file);
        }
    }

    #[test]
    fn what_stands_outside_the_block_stays(before in "([ -~]{0,9}\r?\n){0,4}", after in "([ -~]{0,9}\r?\n){0,4}x?", old in host_lines(), new in host_lines()) {
        let main = cluster("main");
        let file = format!("{before}{}{after}", render(&main, &old));
        let expected = format!("{before}{}{after}", render(&main, &new)).into_bytes();
        let edited = match apply(file.as_bytes(), &main, &new).unwrap() {
            Edit::Unchanged => file.into_bytes(),
            Edit::Changed(new) => new,
        };
        prop_assert_eq!(edited, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_script_does_what_the_pure_edit_says(file in host_file(), lines in prop::option::of(host_lines())) {
        check_script(&["sh"], &file, &cluster("main"), lines.as_deref());
    }
}

#[test]
fn the_script_runs_in_a_small_shell_too() {
    // A folder with nothing but busybox's own programs, as on a system that has nothing else.
    let bin = tempfile::tempdir().unwrap();
    let install = Command::new("busybox")
        .args(["--install", "-s"])
        .arg(bin.path())
        .status();
    if !install.is_ok_and(|s| s.success()) {
        return;
    }
    let path = format!("PATH={}", bin.path().display());
    let main = cluster("main");
    let shell = ["busybox", "env", &path, "sh"];
    let block = lines(&["10.0.0.1 a1.main", "fd00::1 b1.main"]);
    for file in [&b""[..], b"x", b"127.0.0.1 localhost\n", b"\xff\r\nx\r", b"a\0b\n"] {
        check_script(&shell, file, &main, Some(&block));
        let Ok(Edit::Changed(with)) = apply(file, &main, &block) else {
            continue;
        };
        check_script(&shell, &with, &main, Some(&block));
        check_script(&shell, &with, &main, Some(&block[..1]));
        check_script(&shell, &with, &main, None);
    }
}
