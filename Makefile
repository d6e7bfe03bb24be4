# make            build/libdgk.a, build/libdgk.so, build/dgc
# make test       builds and runs every test
# make check      the same with -Werror, AddressSanitizer and UBSan, and the order of includes
# make demo       from a bare Debian 12 to a kernel that ran, in one command
# make threads    32 threads on one library, under ThreadSanitizer
# make docs       docs/cli.md, written anew from the tables
# make diff       PTX of every kernel and target against the last commit's
# make python     build/_fast.abi3.so, the call path of the Python package (it works without, slower)
# make install    DESTDIR= PREFIX=/usr/local
#
# Every .c of the source folders is compiled: adding a file needs no line here. B= is the build folder.

CC      ?= gcc
CFLAGS  ?= -O2 -g
PREFIX  ?= /usr/local
B       := build
VERSION := 0.1.0

override CFLAGS += -std=gnu11 -Wall -Wextra -pedantic -Wno-override-init -Wno-unknown-pragmas -fPIC -fvisibility=default -I. -I$(B) $(EXTRA)
override LDLIBS += -ldl -lm -lpthread

CLI_SRC := $(wildcard runtime/cli*.c)
LIB_SRC := $(filter-out $(CLI_SRC),$(wildcard dsl/*.c compiler/*.c codegen/*.c runtime/*.c runtime/emu/*.c))
GENERATED := $(patsubst dsl/%.y,$(B)/dsl/%.c,$(wildcard dsl/parse.y)) $(patsubst dsl/%.l,$(B)/dsl/%.c,$(wildcard dsl/lex.l))
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o) $(GENERATED:.c=.o) $(B)/stamp.o
STAMPED := $(sort $(LIB_SRC) $(foreach d,dsl compiler codegen runtime runtime/emu,$(wildcard $d/*.[hly] $d/*.def)))
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)
TEST_SRC := $(shell find tests -name 'test_*.c' 2>/dev/null | sort)
TEST_EXE := $(TEST_SRC:%.c=$(B)/%)

.PHONY: all lib tests tools test check threads includes docs report demo diff python install clean
.DELETE_ON_ERROR:
.SECONDARY:

all: lib $(if $(CLI_SRC),$(B)/dgc)
lib: $(B)/libdgk.a $(B)/libdgk.so

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

# Generated C is compiled like our own, less the warnings its skeleton earns. lex.h and parse.h are found as "dsl/….h".
$(B)/dsl/%.o: $(B)/dsl/%.c
	$(CC) $(CFLAGS) -Wno-unused-function -Wno-sign-compare -Wno-pedantic -MMD -MP -c -o $@ $<
$(B)/dsl/parse.c $(B)/dsl/parse.h &: dsl/parse.y
	@mkdir -p $(@D)
	bison -Wall -o $(B)/dsl/parse.c --defines=$(B)/dsl/parse.h dsl/parse.y
$(B)/dsl/lex.c $(B)/dsl/lex.h &: dsl/lex.l
	@mkdir -p $(@D)
	flex -o $(B)/dsl/lex.c --header-file=$(B)/dsl/lex.h dsl/lex.l
$(LIB_OBJ) $(CLI_OBJ): | $(GENERATED)

# What compiled code in the cache follows from: runtime/cache.h, cache_stamp.
$(B)/stamp.c: $(STAMPED)
	@mkdir -p $(@D)
	@printf 'extern const char cache_stamp[];\nconst char cache_stamp[] = "%.40s";\n' "$$( { $(CC) --version | head -n 1; cat $^; } | sha256sum)" > $@
$(B)/stamp.o: $(B)/stamp.c
	$(CC) $(CFLAGS) -c -o $@ $<

# One object in the archive: what is found through tables alone must not be left out.
$(B)/libdgk.a: $(LIB_OBJ)
	@rm -f $@
	$(LD) -r -o $(B)/libdgk.o $^
	$(AR) rcs $@ $(B)/libdgk.o
$(B)/libdgk.so: $(LIB_OBJ)
	$(CC) $(CFLAGS) -shared -Wl,-soname,libdgk.so.0 -o $@ $^ $(LDLIBS)
	@ln -sf libdgk.so $(B)/libdgk.so.0
$(B)/dgc: $(CLI_OBJ) $(LIB_OBJ)
	$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)

# Tests use the shared library: a hundred small programs that link in no time.
$(B)/tests/%: tests/%.c $(B)/libdgk.so
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -MF $@.d -o $@ $< -L$(B) -ldgk -Wl,-rpath,$(abspath $(B)) $(LDLIBS)
tests: $(TEST_EXE)

# What building and testing need on a bare machine; said, and no failure, where it may not be installed.
tools:
	@. tests/need.sh; need gcc:gcc flex:flex bison:bison xz:xz-utils python3:python3 || true

# A test that does not build is a test that fails: the runner counts it.
test: tools
	-@$(MAKE) --no-print-directory -k all tests B=$(B)
	@tests/run.sh $(B)

check: includes
	$(MAKE) test B=build/check EXTRA="-Werror -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"

# The tests that share things between threads, under ThreadSanitizer.
threads:
	$(MAKE) lib build/threads/tests/runtime/test_threads B=build/threads CFLAGS="-O1 -g -fsanitize=thread"
	TSAN_OPTIONS=halt_on_error=1 build/threads/tests/runtime/test_threads

# dsl -> compiler -> codegen -> runtime: a folder includes itself and what stands to its left; the emulator only dsl/base.h, dsl/diag.h.
includes:
	@! grep -nE '#include "(compiler|codegen|runtime)/' dsl/*.[chly] 2>/dev/null
	@! grep -nE '#include "(codegen|runtime)/' compiler/*.[ch] 2>/dev/null
	@! grep -nE '#include "runtime/' codegen/*.[ch] 2>/dev/null
	@! grep -nE '#include "(dsl|compiler|codegen|runtime)/' runtime/emu/*.[ch] 2>/dev/null | grep -vE '"(dsl/(base|diag)\.h|runtime/emu/)'
	@echo 'includes: in order'

docs: all
	@tests/docs/cli.sh $(B)/dgc > docs/cli.md
# Machine code for chips that are not here: docs/machine-code.md.
report: all
	@. tests/need.sh; need_ptxas $(B)/dgc && need_nvdisasm && python3 tests/report/report.py $(B)/dgc
# One binary for every Python from 3.10 on.
PYTHON ?= python3
python: $(B)/_fast.abi3.so
$(B)/_fast.abi3.so: $(wildcard python/dgk/*.c) python/dgk/_fast.h runtime/dgk.h
	@mkdir -p $(@D)
	$(CC) -O2 -g -std=gnu11 -Wall -Wextra -shared -fPIC -fvisibility=hidden -I. -I$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))') -o $@ $(filter %.c,$^)

demo:
	@tests/demo.sh
diff:
	@tests/ptx_diff.sh

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/share/dgc
	install -m 755 $(B)/dgc $(DESTDIR)$(PREFIX)/bin/dgc
	install -m 644 $(B)/libdgk.a $(DESTDIR)$(PREFIX)/lib/libdgk.a
	install -m 755 $(B)/libdgk.so $(DESTDIR)$(PREFIX)/lib/libdgk.so.$(VERSION)
	ln -sf libdgk.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/libdgk.so.0
	ln -sf libdgk.so.0 $(DESTDIR)$(PREFIX)/lib/libdgk.so
	for h in $(wildcard runtime/dgk.h); do install -m 644 $$h $(DESTDIR)$(PREFIX)/include/; done
	cp -R $(wildcard kernels_dsl) $(DESTDIR)$(PREFIX)/share/dgc/
	printf 'prefix=%s\nName: dgk\nDescription: runs tile-language kernels\nVersion: %s\nLibs: -L$${prefix}/lib -ldgk -ldl -lm -lpthread\nCflags: -I$${prefix}/include\n' \
	    $(PREFIX) $(VERSION) > $(DESTDIR)$(PREFIX)/lib/pkgconfig/dgk.pc
	install -d $(DESTDIR)$(PREFIX)/lib/cmake/dgk
	sed 's|@VERSION@|$(VERSION)|' runtime/dgk-config.cmake.in > $(DESTDIR)$(PREFIX)/lib/cmake/dgk/dgk-config.cmake

clean:
	rm -rf $(B)

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TEST_EXE:%=%.d)
