//! The program `marconi` as a server, watched and stopped by way of its admin API.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

/// A command of the program, which nothing in the test's environment speaks to.
fn marconi(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marconi"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MARCONI_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A server; killed when dropped.
struct Server {
    child: Child,
    start_line: String,
    /// Where the API and the admin API are.
    addresses: [String; 2],
}

impl Server {
    fn start(folder: &std::path::Path) -> Server {
        let folder = format!("--folder={}", folder.join("data").display());
        let arguments = ["serve", "--listen=127.0.0.1:0", "--admin-listen", "127.0.0.1:0", &folder];
        let mut child = marconi(&arguments)
            // Of the client, and none of the server's.
            .env("MARCONI_URL", "http://elsewhere:8888")
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut start_line = String::new();
        let stdout = child.stdout.take().expect("it was piped");
        BufReader::new(stdout).read_line(&mut start_line).expect("it prints");
        let mut found = start_line.split("http://").skip(1);
        let mut address = || {
            let rest = found.next().unwrap_or_else(|| panic!("no address in {start_line:?}"));
            rest.split([' ', ')']).next().unwrap_or_default().to_owned()
        };
        let addresses = [address(), address()];
        Server { child, start_line, addresses }
    }

    /// The whole answer to a request.
    fn ask(&self, address: usize, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.addresses[address]).expect("it listens");
        let size = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             client-id: 3381af92-2b9e-11e3-b191-71861300734c\r\ncontent-length: {size}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    fn top(&self, arguments: &[&str]) -> String {
        let url = format!("http://{}", self.addresses[1]);
        let mut command = marconi(&["top"]);
        let Output { status, stdout, stderr } =
            command.env("MARCONI_ADMIN_URL", url).args(arguments).output().expect("it runs");
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).expect("text")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_server_is_served_watched_and_drained() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(folder.path());
    assert!(server.start_line.starts_with("marconi-server "), "{}", server.start_line);
    assert!(server.start_line.ends_with(": a new folder\n"), "{}", server.start_line);

    assert!(server.ask(0, "PUT /v1/queues/jobs", "").starts_with("HTTP/1.1 201 "));
    let messages = r#"[{"ttl": 300, "body": 1}, {"ttl": 300, "body": 2}]"#;
    let posted = server.ask(0, "POST /v1/queues/jobs/messages", messages);
    assert!(posted.starts_with("HTTP/1.1 201 "), "{posted}");

    // Each look is a document: nothing here is a terminal.
    let printed = server.top(&["--interval", "100ms", "--count", "2"]);
    let looks: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(looks.len(), 2);
    assert_eq!(looks[0]["rates"]["since_start"], true);
    assert_eq!(looks[1]["rates"]["since_start"], false);
    assert_eq!(looks[1]["rates"]["posted_per_s"], 0.0);
    assert_eq!(looks[1]["deepest"]["queues"][0]["name"], "jobs");
    assert_eq!(looks[1]["stats"]["engine"]["live_messages"], 2);

    let screen = server.top(&["--interval", "100ms", "--once"]).replace('\u{a0}', " ");
    assert!(screen.starts_with("marconi "), "{screen}");
    assert!(screen.contains("store     1 queue, 2 messages, 0 claims\n"), "{screen}");
    assert!(screen.contains("\njobs                         2        0  jobs"), "{screen}");

    let drained = server.ask(1, "POST /drain", "");
    assert!(drained.starts_with("HTTP/1.1 202 ") && drained.contains("draining"), "{drained}");
    let status = server.child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn nobody_there_and_a_wrong_option_are_told_in_a_line() {
    for (arguments, code, line) in [
        (["top", "--admin-url=http://127.0.0.1:1"], 2, "marconi: cannot reach http://127.0.0.1:1/"),
        (["serve", "--folder=/dev/null/data"], 1, "marconi-server: cannot open the data folder"),
        (["serve", "--max-message-ttl=soon"], 2, "marconi-server: --max-message-ttl: "),
    ] {
        let output = marconi(&arguments).output().expect("it runs");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.starts_with(line) && text.lines().count() == 1, "{text}");
    }
    let help = marconi(&["serve", "--help"]).output().expect("it runs").stdout;
    let help = String::from_utf8(help).expect("text");
    assert!(help.contains("marconi serve [OPTIONS]") && help.contains("--admin-listen"), "{help}");
}
