//! Generates the gRPC code with protox, so that a clone builds without protoc.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=rookery");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(["tree", "index", "admin"].map(|name| format!("rookery/v1/{name}.proto")))?;

    // gRPC reflection serves exactly what the code was generated from.
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("rookery_v1.bin");
    std::fs::write(descriptors, compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
