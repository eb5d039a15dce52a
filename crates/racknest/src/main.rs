//! The one binary: `racknest up`, the processes of a box, and the client verbs.

mod boxes;
mod cli;
mod client;
mod clock;
mod command;
mod deployment;
mod down;
mod login;
mod print;
mod profile;
mod simulate;
mod status;
mod up;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::error(&error);
            if error.is::<cli::UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
