//! Runs seeds of the simulation: one to look at, or many to find one to look at.
//!
//! `cargo run -p racknest-sim -- --seed 42 --transcript`, or `-- --seeds 20000 --base 1`.

use std::io::Write as _;
use std::process::ExitCode;

use racknest_sim::bug::Bug;
use racknest_sim::run::{Options, run};
use racknest_sim::seeds;

const HELP: &str = "\
usage: racknest-sim --seed SEED [--transcript] [--bug NAME]
       racknest-sim --seeds COUNT [--base BASE] [--bug NAME]

--seed SEED    run this seed
--transcript   print all that happened, not only the last lines
--seeds COUNT  run so many seeds; one that fails is told at once
--base BASE    the seed of the first; 1 if it is left out
--bug NAME     plant a bug: LockNotChecked, BeatNotCompared, ...
";

#[derive(Debug, Default)]
struct Arguments {
    seed: Option<u64>,
    seeds: u64,
    base: u64,
    bug: Option<Bug>,
    is_watched: bool,
}

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    let Some(arguments) = read(std::env::args().skip(1)) else {
        // A reader that has hung up needs no help.
        let _ = out.write_all(HELP.as_bytes());
        return ExitCode::from(2);
    };
    let options = Options {
        bug: arguments.bug,
        emphasis: arguments.bug.map(Bug::emphasis).unwrap_or_default(),
        is_watched: arguments.is_watched,
    };
    let done = match arguments.seed {
        Some(seed) => one(&mut out, seed, options),
        None => many(&mut out, &arguments, options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn read(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments { base: 1, ..Arguments::default() };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => arguments.seed = Some(words.next()?.parse().ok()?),
            "--seeds" => arguments.seeds = words.next()?.parse().ok()?,
            "--base" => arguments.base = words.next()?.parse().ok()?,
            "--transcript" => arguments.is_watched = true,
            "--bug" => {
                let name = words.next()?;
                arguments.bug = Some(Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name)?);
            }
            _ => return None,
        }
    }
    (arguments.seed.is_some() || arguments.seeds > 0).then_some(arguments)
}

fn one(out: &mut impl std::io::Write, seed: u64, options: Options) -> std::io::Result<bool> {
    let outcome = run(seed, options);
    writeln!(out, "{:#?}", outcome.swarm)?;
    if outcome.violation.is_some() {
        write!(out, "{}", seeds::describe(seed, &outcome))?;
        return Ok(false);
    }
    if options.is_watched {
        write!(out, "{}", outcome.transcript)?;
    }
    writeln!(out, "seed {seed} holds; hash {:016x}", outcome.hash)?;
    Ok(true)
}

fn many(
    out: &mut impl std::io::Write,
    arguments: &Arguments,
    options: Options,
) -> std::io::Result<bool> {
    let (mut failed, mut simulated_ms) = (0_u64, 0);
    for place in 0..arguments.seeds {
        let seed = seeds::nth(arguments.base, place);
        let outcome = run(seed, options);
        simulated_ms += outcome.simulated_ms;
        if let Some(violation) = &outcome.violation {
            failed += 1;
            writeln!(out, "seed {seed}: {}: {}", violation.invariant, violation.what)?;
        }
        if (place + 1) % 1_000 == 0 {
            writeln!(out, "{} seeds, {failed} failed", place + 1)?;
        }
        out.flush()?;
    }
    let (seeds, hours) = (arguments.seeds, simulated_ms / 3_600_000);
    writeln!(out, "{seeds} seeds, {failed} failed, {hours} cluster hours simulated")?;
    Ok(failed == 0)
}
