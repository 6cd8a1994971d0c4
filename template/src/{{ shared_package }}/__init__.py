"""Code that several experiments share, such as features; they import it by the name of this folder.

It is yours: `copier update` never touches it. A run records what it imports from here, and an edit marks later folds as
`mixed code`: once runs depend on a function, write a new one beside it.
"""
