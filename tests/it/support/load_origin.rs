//! Only the load tool's two halves as processes belong here: `sekisho load origin` running, `sekisho load run` to its end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::sekisho::{binary, text};
use super::{Config, Service};

/// A running `sekisho load origin`.
pub struct LoadOrigin {
    pub dir: TempDir,
    pub child: Child,
    pub port: u16,
    pub said: String,
}

impl LoadOrigin {
    pub fn start() -> Self {
        Self::named(&[])
    }

    /// With more names than `load.test` in its certificate.
    pub fn named(names: &[&str]) -> Self {
        let dir = TempDir::new().expect("a directory");
        let mut child = Command::new(binary())
            .args(["load", "origin", "--listen", "127.0.0.1:0", "--dir", "files", "--name", "load.test"])
            .args(names.iter().flat_map(|name| ["--name", name]))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut said = String::new();
        while !said.contains("sekisho load run") {
            said += &(lines.next().expect("it says what to run").expect("text") + "\n");
        }
        let ready = said.lines().next().and_then(|line| line.strip_prefix("ready: https://load.test:"));
        let port = ready.and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a port");
        Self { dir, child, port, said }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("files/root.pem")
    }

    pub fn target(&self) -> String {
        format!("https://load.test:{}", self.port)
    }

    /// A proxy that allows it.
    pub fn config(&self) -> Config {
        Config::new()
            .service(Service::tunnel("Load", &["load.test"], self.port))
            .hosts(&["load.test"])
            .set("upstream", "extra_roots", &format!("[{:?}]", self.root()))
            .set("limits.per_client", "connections", "20000")
    }

    pub fn command(&self, proxy: u16, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(["load", "run", "--proxy", &format!("127.0.0.1:{proxy}"), "--target", &self.target(), "--ca"])
            .arg(self.root())
            .args(["--json", "out.json"])
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// `sekisho load run` to its end: how it ended, what it said, and its figures.
    pub fn run(&self, proxy: u16, arguments: &[&str]) -> (Output, Value) {
        let _ = fs::remove_file(self.dir.path().join("out.json"));
        let out = self.command(proxy, arguments).output().expect("the binary runs");
        let json = self.json(&out);
        (out, json)
    }

    pub fn json(&self, out: &Output) -> Value {
        let file = fs::read_to_string(self.dir.path().join("out.json"));
        let file = file.unwrap_or_else(|error| panic!("{error}: {}{}", text(&out.stdout), text(&out.stderr)));
        serde_json::from_str(&file).expect("JSON")
    }
}

impl Drop for LoadOrigin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
