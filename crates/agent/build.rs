//! The agent that ships is linked by a script of its own: where that changes, it is linked again.

fn main() {
    println!("cargo:rerun-if-changed=lean.ld");
}
