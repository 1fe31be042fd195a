//! Prints what this build believes about CPython's structs and opcodes, for `tools/layout-check`:
//! a line for each fact, the value, a tab, and the C expression that must have it.

#[expect(clippy::print_stdout, reason = "printing is its purpose")]
fn main() {
    let checks = objspace_interp::LAYOUT_CHECKS;
    for (expression, value) in checks.iter().chain(objspace_interp::OPCODE_CHECKS) {
        println!("{value}\t{expression}");
    }
}
