//! The tour in README.md does what it says: its commands, pasted into a shell, against the real
//! program. The test lies in this package because cargo hands the program's path to its tests alone.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// The running program; stopped when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; the folder goes with the test.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program on free ports; and where it listens.
fn start(folder: &std::path::Path) -> (Server, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_marconi-server"))
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "off"])
        .args(["--segment-size-bytes", "1MiB", "--disk-reserve-bytes", "0"])
        .arg("--folder")
        .arg(folder.join("data"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let stdout = child.stdout.take().expect("it was piped");
    let server = Server(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next());
    (server, address.unwrap_or_else(|| panic!("no address in {line:?}")).to_owned())
}

#[test]
fn the_tour_works_when_pasted() {
    let readme = include_str!("../../README.md");
    let tour: String = readme
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect::<Vec<_>>()
        .join("\n");
    assert!(tour.contains("/claims"), "README.md has no tour");
    let folder = tempfile::tempdir().expect("a folder");
    let (_server, address) = start(folder.path());
    let script = tour.replace("127.0.0.1:8888", &address);
    let output = Command::new("bash")
        .args(["-e", "-u", "-o", "pipefail", "-c", &script])
        .env("no_proxy", "*")
        .output()
        .expect("bash and curl are there");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    for expected in [
        r#""partial":false"#,
        r#"{"resize": "cat.png"}"#,
        "?claim_id=",
        r#"{"messages":{"free":1,"claimed":0,"total":1,"#,
        "marconi-durability: os",
    ] {
        assert!(said.contains(expected), "no {expected} in:\n{said}");
    }
}
