//! Prints the OpenAPI document; `cargo xtask gen` writes it to `crates/api/openapi.json`.

#![expect(clippy::print_stdout, reason = "printing is what this is for")]

fn main() {
    println!("{:#}", racknest_api::openapi::document());
}
