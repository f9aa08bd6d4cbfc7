"""The trainers: TRL's classes with a beta rule, recording and a reference store."""
