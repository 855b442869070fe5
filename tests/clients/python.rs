//! The official client in a virtual environment of its own, made when it is not there as pinned.

use anyhow::{Context, ensure};
use marconi_tests::program::profile_folder;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const REQUIREMENTS: &str = include_str!("requirements.txt");

/// A script of this folder, ready to be started with the official client at hand.
pub(crate) fn script(name: &str) -> anyhow::Result<Command> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let python = match PYTHON.get_or_init(|| environment().map_err(|cause| format!("{cause:#}"))) {
        Ok(python) => python,
        Err(cause) => anyhow::bail!("{cause}"),
    };
    let mut command = Command::new(python);
    // No files beside the sources.
    command.arg("-B").arg(source_folder().join(name)).stdin(Stdio::null());
    Ok(command)
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// The interpreter of an environment that holds what `requirements.txt` pins.
fn environment() -> anyhow::Result<PathBuf> {
    let profile = profile_folder()?;
    let folder = profile.parent().context("a profile lies in the target folder")?.join("client-v1");
    let python = folder.join("bin").join("python");
    // Written last, so that an environment half made does not count.
    let made = folder.join("made-from.txt");
    if python.exists() && fs::read_to_string(&made).is_ok_and(|text| text == REQUIREMENTS) {
        return Ok(python);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).context("remove the old environment")?;
    }
    let system_python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    call(&system_python, &[OsStr::new("-m"), OsStr::new("venv"), folder.as_os_str()])?;
    let requirements = source_folder().join("requirements.txt");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    let mut arguments: Vec<&OsStr> = install.iter().map(OsStr::new).collect();
    arguments.push(requirements.as_os_str());
    call(python.as_os_str(), &arguments)?;
    fs::write(&made, REQUIREMENTS).context("note what the environment was made from")?;
    Ok(python)
}

fn call(program: &OsStr, arguments: &[&OsStr]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", program.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {arguments:?}: {errors}", program.display());
    Ok(())
}
