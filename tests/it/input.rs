//! Bad input is refused with its field and rule, and stores nothing; good
//! input is taken to its bounds and comes back to the letter.

mod raw;
mod refusals;
mod sizes;
mod text;
