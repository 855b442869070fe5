//! `marconi log repair`: what is wrong, what would be done about it, what would be lost record by
//! record; and doing it. Knows how it is shown, not how it is done.

use super::findings::{self, FindingDocument};
use super::folder::Folder;
use super::progress::Bar;
use crate::output::{Output, Tone, counted};
use marconi_engine::inspect::{self, RepairAction, RepairDone, RepairPlan, RepairStep};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  marconi log repair data --plan
  marconi log repair data --apply

Nothing is deleted: what is taken out goes to a dated folder inside the data folder, with a list.";

/// Of what, and whether to do it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("deed").required(true).args(["plan", "apply"])))]
pub(crate) struct Options {
    #[command(flatten)]
    folder: Folder,
    /// Say what a repair would do and what would be lost. Changes nothing.
    #[arg(long)]
    plan: bool,
    /// Repair. The folder must not be in use; keep a copy of it.
    #[arg(long)]
    apply: bool,
}

pub(crate) fn run(options: &Options, output: &mut Output) -> anyhow::Result<ExitCode> {
    let folder = &options.folder;
    if options.apply {
        let done = inspect::apply_repair(&folder.path, &mut Bar::new(output));
        let done = done.map_err(|error| folder.explain(error))?;
        if output.json {
            output.document(&Document::done(folder, &done))?;
        } else {
            applied(folder, &done, output)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    folder.step_back();
    let plan = inspect::plan_repair(&folder.path, &mut Bar::new(output));
    let plan = plan.map_err(|error| folder.explain(error))?;
    if output.json {
        output.document(&Document::new(folder, &plan))?;
    } else {
        planned(folder, &plan, output)?;
    }
    Ok(ExitCode::SUCCESS)
}

// ---- for people ----

fn planned(folder: &Folder, plan: &RepairPlan, output: &mut Output) -> anyhow::Result<()> {
    for finding in &plan.findings {
        findings::text(finding, output)?;
        output.line("")?;
    }
    if plan.steps.is_empty() {
        output.line(output.tone(Tone::Good, "There is nothing to repair."))?;
        return Ok(());
    }
    steps("A repair would", plan, output)?;
    let kept = kept(plan);
    output.line(format_args!("It would keep {kept}; what would be lost stands above."))?;
    output.line(format_args!(
        "Nothing was changed. Copy the folder, then: marconi log repair {folder} --apply"
    ))?;
    Ok(())
}

fn applied(folder: &Folder, done: &RepairDone, output: &mut Output) -> anyhow::Result<()> {
    let plan = &done.plan;
    for finding in &plan.findings {
        findings::text(finding, output)?;
        output.line("")?;
    }
    if plan.steps.is_empty() {
        output.line(output.tone(Tone::Good, "There was nothing to repair."))?;
        return Ok(());
    }
    steps("Done", plan, output)?;
    output.line(format_args!("Kept {}; what is lost stands above.", kept(plan)))?;
    if let Some(aside) = &done.set_aside {
        output.line(format_args!("What was taken out lies in {}", aside.display()))?;
    }
    output.line(format_args!("Next: marconi log verify {folder}"))?;
    Ok(())
}

fn kept(plan: &RepairPlan) -> String {
    let (messages, queues) = (plan.kept_messages, plan.kept_queues);
    format!("{} in {}", counted(messages, "message"), counted(queues, "queue"))
}

fn steps(title: &str, plan: &RepairPlan, output: &mut Output) -> anyhow::Result<()> {
    output.line(output.tone(Tone::Heading, format_args!("{title}:")))?;
    for step in &plan.steps {
        output.line(format_args!("  {}", step_line(step)))?;
    }
    Ok(())
}

fn step_line(step: &RepairStep) -> String {
    let file = step.file.display();
    match &step.what {
        RepairAction::SetAside => format!("set aside {file}"),
        RepairAction::Rename(to) => format!("rename {file} to {}", to.display()),
        RepairAction::Write => format!("write {file} anew"),
        RepairAction::Rewrite => {
            format!("write what can be read of {file} anew, and set the file aside")
        }
        RepairAction::Checkpoint => {
            format!("write a checkpoint into {file}, and set the older ones aside")
        }
    }
}

// ---- for programs ----

/// What `repair --json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    folder: String,
    is_applied: bool,
    findings: Vec<FindingDocument<'a>>,
    steps: Vec<StepDocument>,
    kept_messages: u64,
    kept_queues: u64,
    set_aside: Option<String>,
}

#[derive(Debug, Serialize)]
struct StepDocument {
    what: &'static str,
    file: String,
    to: Option<String>,
}

fn name(file: &Path) -> String {
    file.display().to_string()
}

impl<'a> Document<'a> {
    fn new(folder: &Folder, plan: &'a RepairPlan) -> Document<'a> {
        Document {
            folder: name(&folder.path),
            is_applied: false,
            findings: plan.findings.iter().map(FindingDocument::from).collect(),
            steps: plan.steps.iter().map(StepDocument::from).collect(),
            kept_messages: plan.kept_messages,
            kept_queues: plan.kept_queues,
            set_aside: None,
        }
    }

    fn done(folder: &Folder, done: &'a RepairDone) -> Document<'a> {
        Document {
            is_applied: true,
            set_aside: done.set_aside.as_deref().map(name),
            ..Document::new(folder, &done.plan)
        }
    }
}

impl From<&RepairStep> for StepDocument {
    fn from(step: &RepairStep) -> StepDocument {
        let to = match &step.what {
            RepairAction::Rename(to) => Some(name(to)),
            _ => None,
        };
        StepDocument { what: step.what.name(), file: name(&step.file), to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_what_it_would_do_and_what_it_would_keep() {
        let step = |what: RepairAction| RepairStep { what, file: "data/log/2.seg".into() };
        let plan = RepairPlan {
            findings: Vec::new(),
            steps: vec![
                step(RepairAction::SetAside),
                step(RepairAction::Rename("data/log/3.seg".into())),
                step(RepairAction::Rewrite),
            ],
            kept_queues: 1,
            kept_messages: 12,
        };
        let (mut output, captured) = Output::captured(false);
        let folder = Folder { path: "my data".into() };
        planned(&folder, &plan, &mut output).expect("a buffer takes all");
        let done = RepairDone { plan, set_aside: Some("my data/set-aside-1".into()) };
        applied(&folder, &done, &mut output).expect("a buffer takes all");
        output.flush().expect("a buffer takes all");
        let expected = "\
A repair would:
  set aside data/log/2.seg
  rename data/log/2.seg to data/log/3.seg
  write what can be read of data/log/2.seg anew, and set the file aside
It would keep 12 messages in 1 queue; what would be lost stands above.
Nothing was changed. Copy the folder, then: marconi log repair 'my data' --apply
Done:
  set aside data/log/2.seg
  rename data/log/2.seg to data/log/3.seg
  write what can be read of data/log/2.seg anew, and set the file aside
Kept 12 messages in 1 queue; what is lost stands above.
What was taken out lies in my data/set-aside-1
Next: marconi log verify 'my data'
";
        assert_eq!(captured.text(), expected);
    }
}
