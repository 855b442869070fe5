//! Which server, and as whom: from flags, the environment or a file. Knows nothing of what is asked.

use anyhow::{Context, bail};
use marconi_client::{Builder, Client, Durability, Uuid};
use serde::Deserialize;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

const DEFAULT_URL: &str = "http://127.0.0.1:8888";

/// Which server, and as whom. An empty value is none, also where the file has one.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerOptions {
    /// Address of the server; http://127.0.0.1:8888 where nothing else is said.
    #[arg(long, env = "MARCONI_URL", value_name = "URL")]
    url: Option<String>,
    /// The tenant whose queues they are; none where nothing is said.
    #[arg(long, env = "MARCONI_PROJECT", value_name = "NAME")]
    project: Option<String>,
    /// Who posts and lists, a UUID; a new one for each run where nothing is said.
    #[arg(long, env = "MARCONI_CLIENT_ID", value_name = "UUID")]
    client_id: Option<String>,
    /// Token for a proxy that asks for one; others on this machine may see flags, not the environment.
    #[arg(long, env = "MARCONI_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// What writes promise: memory, os, interval, group or each; the queue's level where not more.
    #[arg(long, value_name = "LEVEL")]
    durability: Option<String>,
    /// File with url, project, client_id, token, durability; ~/.config/marconi/client.toml if there.
    #[arg(long, env = "MARCONI_CLIENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What a file may say.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileOptions {
    url: Option<String>,
    project: Option<String>,
    client_id: Option<String>,
    token: Option<String>,
    durability: Option<String>,
}

/// A client to be, and whether somebody said who it is.
pub(super) struct Server {
    pub(super) builder: Builder,
    pub(super) has_client_id: bool,
}

impl ServerOptions {
    /// A client with the usual patience.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Ok(self.server()?.builder.build()?)
    }

    pub(super) fn server(&self) -> anyhow::Result<Server> {
        let file = self.file(|name| std::env::var_os(name))?;
        let said = |here: &Option<String>, there: Option<String>| {
            here.clone().or(there).filter(|text| !text.is_empty())
        };
        let url = said(&self.url, file.url);
        let mut builder = Client::builder(url.unwrap_or_else(|| DEFAULT_URL.to_owned()));
        if let Some(project) = said(&self.project, file.project) {
            builder = builder.project(project);
        }
        let client_id = said(&self.client_id, file.client_id);
        let has_client_id = client_id.is_some();
        if let Some(id) = client_id {
            let id: Uuid = id.parse().with_context(|| {
                format!("the client id is {id:?}; it has to be a UUID, such as {}", Uuid::new_v4())
            })?;
            builder = builder.client_id(id);
        }
        if let Some(token) = said(&self.token, file.token) {
            builder = builder.token(token);
        }
        if let Some(level) = said(&self.durability, file.durability) {
            builder = builder.durability(level.parse::<Durability>()?);
        }
        Ok(Server { builder, has_client_id })
    }

    /// What the file says: the one named has to be there, the usual one need not.
    fn file(&self, variable: impl Fn(&str) -> Option<OsString>) -> anyhow::Result<FileOptions> {
        let named = self.config.as_ref().filter(|file| !file.as_os_str().is_empty());
        let Some(path) = named.cloned().or_else(|| usual_file(variable)) else {
            return Ok(FileOptions::default());
        };
        let text = match std::fs::read_to_string(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Ok(FileOptions::default());
            }
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        read_file(&path, &text)
    }
}

fn usual_file(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| variable(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let folder = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(folder.join("marconi").join("client.toml"))
}

fn read_file(path: &Path, text: &str) -> anyhow::Result<FileOptions> {
    match toml::from_str(text) {
        Ok(options) => Ok(options),
        Err(cause) => {
            let before = cause.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            bail!("{}:{line}: {}", path.display(), cause.message())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(named: Option<&str>, variables: &[(&str, &Path)]) -> anyhow::Result<FileOptions> {
        let options = ServerOptions { config: named.map(PathBuf::from), ..Default::default() };
        options.file(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, path)| path.as_os_str().to_owned())
        })
    }

    #[test]
    fn the_file_is_found_and_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join(".config/marconi");
        std::fs::create_dir_all(&home).expect("a folder");
        std::fs::write(home.join("client.toml"), "project = \"p\"").expect("a file");
        let of_home = file(None, &[("HOME", folder.path())]).expect("a file");
        assert_eq!(of_home.project.as_deref(), Some("p"));
        // The other place outranks it; that there is no file is no fault unless it was named.
        let elsewhere = [("HOME", folder.path()), ("XDG_CONFIG_HOME", Path::new("/nowhere"))];
        assert_eq!(file(None, &elsewhere).expect("none"), FileOptions::default());
        let named = file(Some("/nowhere/x.toml"), &elsewhere).expect_err("it was named");
        assert!(format!("{named:#}").starts_with("cannot read /nowhere/x.toml: "), "{named:#}");
    }

    #[test]
    fn what_a_file_may_not_say_is_refused_with_its_place() {
        let read = |text| read_file(Path::new("c.toml"), text).expect_err(text).to_string();
        let unknown = read("url = \"http://a\"\npassword = 1\n");
        assert!(unknown.starts_with("c.toml:2: unknown field `password`"), "{unknown}");
        let kind = read("url = 1");
        assert!(kind.starts_with("c.toml:1: invalid type"), "{kind}");
    }

    #[test]
    fn values_are_checked_and_an_empty_one_is_none() {
        let some = |text: &str| Some(text.to_owned());
        // No file of this machine has a say here.
        let config = Some(PathBuf::from("/dev/null"));
        let options = ServerOptions { config, ..Default::default() };
        assert!(!options.server().expect("all is default").has_client_id);
        let none = ServerOptions { project: some(""), url: some(""), ..options.clone() };
        none.client().expect("an empty value is none");
        for wrong in [
            ServerOptions { client_id: some("me"), ..options.clone() },
            ServerOptions { durability: some("best"), ..options.clone() },
            ServerOptions { url: some("https://a"), ..options.clone() },
        ] {
            assert!(wrong.client().is_err(), "{wrong:?}");
        }
        let named = ServerOptions { client_id: some(&Uuid::new_v4().to_string()), ..options };
        assert!(named.server().expect("a UUID").has_client_id);
    }
}
