// Written by the generator of `ir-specs` from its tables. Do not edit.

mod examples;
mod rules;
mod violations;
