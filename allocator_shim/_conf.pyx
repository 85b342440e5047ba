# SPDX-License-Identifier: MIT
# cython: language_level=3, autotestdict=False
"""PGTABLE_CLEANUP_CONF, read by the same code as in the library."""

import os as _os

cdef extern from "conf.h":
    ctypedef struct shim_text "struct shim_text":
        size_t length
        char *bytes

    ctypedef struct shim_conf "struct shim_conf":
        pass

    unsigned int shim_conf_parse(
        shim_conf *conf, const char *text, void (*complain)(const shim_text *, void *), void *data
    )
    void shim_conf_write(const shim_conf *conf, shim_text *text)

cdef extern from *:
    """
    #include "conf.h"
    static struct shim_conf default_conf(void)
    {
        return (struct shim_conf)SHIM_CONF_DEFAULT;
    }
    """
    shim_conf default_conf()


cdef void _note(const shim_text *why, void *complaints) noexcept:
    (<list>complaints).append(why.bytes[:why.length].decode(errors="replace"))


def parse(str text) -> tuple[str, list[str]]:
    """Return a conf with all its keys, and why each entry that the library would ignore is wrong.

        >>> parse("threshold:7,verbose:3")
        ('threshold:7,interval_ms:1000,...', ['verbose:3: the value must be 0, 1 or 2'])
    """
    cdef shim_conf conf = default_conf()
    cdef shim_text written
    cdef list complaints = []
    shim_conf_parse(&conf, _os.fsencode(text), _note, <void *>complaints)
    written.length = 0
    shim_conf_write(&conf, &written)
    return written.bytes[:written.length].decode(), complaints
