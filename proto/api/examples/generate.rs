//! Rewrites `proto/api/src/generated` from the `.proto` files:
//! `cargo run -p quorate-proto-api --example generate`.

#[path = "../codegen/mod.rs"]
mod codegen;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    codegen::generate(&codegen::generated_folder())
}
