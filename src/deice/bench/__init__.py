"""The bench: methods against each other, on scenes whose truth is known and on a user's own files.

quality     the suites' tables                 comparison  a user's own files
suite       scenes on disk                     micrographs, tomograms   what the scenes are drawn from
methods     what denoises                      learning    what learns first
judge       figures of one answer              tables      figures of many
picking     a plain particle picker            cost        seconds and memory
tegunov     a filter at its best               page        the files of a table
"""
