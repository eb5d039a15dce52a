//! `racknest diff FILE` and `racknest apply FILE`.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::json;

use super::Setting;
use crate::boxes::BoxHome;
use crate::client::Client;
use crate::deployment::apply::Applier;
use crate::deployment::plan::{Plan, plan};
use crate::deployment::{self, Deployment, actual};
use crate::print::{self, Format};

/// The arguments of `racknest diff` and `racknest apply`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeployArgs {
    /// The deployment file
    file: PathBuf,
    /// Remove what the file does not name, too
    #[arg(long)]
    prune: bool,
}

/// Says what `apply` would do. Ends with 1 if that is anything, so that a script can tell.
pub(crate) fn diff(args: &DeployArgs, setting: &Setting) -> anyhow::Result<()> {
    let client = setting.client()?;
    let (_, plan) = compare(args, &client)?;
    show(&plan, setting.format);
    if plan.is_done() { Ok(()) } else { bail!("the rack is not what {} says", args.file.display()) }
}

/// Makes the rack what the file says.
pub(crate) fn apply(args: &DeployArgs, setting: &Setting) -> anyhow::Result<()> {
    let client = setting.client()?;
    let home = client.profile.directory.as_deref().map(BoxHome::new).transpose()?;
    let _change = home.as_ref().map(BoxHome::lock_change).transpose()?;
    let (wanted, plan) = compare(args, &client)?;
    if plan.is_done() {
        show(&plan, setting.format);
        return Ok(());
    }
    Applier { client: &client, wanted: &wanted, home: home.as_ref() }.apply(&plan)?;
    if let Some(home) = &home {
        // The next `racknest up` brings back this deployment.
        let text = deployment::print(&deployment::read(&args.file)?);
        crate::profile::write_private(&home.deployment(), text.as_bytes())?;
    }
    plan.extras.iter().for_each(|extra| print::note(format!("not in the file, left: {extra}")));
    print::note(format!("{} steps done", plan.steps.len()));
    Ok(())
}

fn compare(args: &DeployArgs, client: &Client) -> anyhow::Result<(Deployment, Plan)> {
    let file = deployment::read(&args.file)?;
    let wanted =
        deployment::check(&file).map_err(|why| anyhow!("{}: {why}", args.file.display()))?;
    let found = plan(&wanted, &actual::read(client)?, args.prune);
    Ok((wanted, found))
}

fn show(plan: &Plan, format: Format) {
    if format == Format::Json {
        let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
        print::json(
            &json!({ "steps": steps, "not_in_file": plan.extras, "conflicts": plan.conflicts }),
        );
        return;
    }
    plan.steps.iter().for_each(|step| print::line(step.to_string()));
    plan.conflicts.iter().for_each(|conflict| print::line(format!("cannot: {conflict}")));
    plan.extras.iter().for_each(|extra| print::note(format!("not in the file, left: {extra}")));
    if plan.is_done() {
        print::line("nothing to do");
    }
}
